package playback

import (
	"context"
	"net/http"
	"strings"

	"spekeasy/internal/audit"
)

// playReadyLicense forwards a challenge to the tenant's PlayReady service and
// its answer to the player (D-606). Challenges are opaque, so that what the
// token is bound to is told to the service in headers, which decides.
func (s *Service) playReadyLicense(ctx context.Context, c *call) (*answer, error) {
	p := c.grant.settings.PlayReady
	if p == nil {
		return nil, refuse(http.StatusForbidden, "PlayReady licenses are not offered")
	}
	if len(c.body) == 0 {
		return nil, refuse(http.StatusBadRequest, "malformed license request")
	}
	h := http.Header{"Content-Type": {"text/xml; charset=utf-8"}}
	if action := c.r.Header.Get("SOAPAction"); action != "" {
		h.Set("SOAPAction", action)
	}
	h.Set("X-Spekeasy-Tenant", c.grant.tenant.ID)
	if t := c.grant.token; t != nil {
		c.rec.KIDs = t.KIDs
		if len(t.Contents) == 1 {
			c.rec.ContentID = t.Contents[0]
		}
		h.Set("X-Spekeasy-Token-Id", headerText(t.ID))
		for _, id := range t.Contents {
			h.Add("X-Spekeasy-Content-Id", headerText(id))
		}
		for _, kid := range t.KIDs {
			h.Add("X-Spekeasy-Kid", kid.String())
		}
	}
	for name, value := range p.Headers {
		h.Set(name, string(value))
	}
	a, err := s.post(ctx, p.URL, h, c.body)
	if err != nil {
		return nil, err
	}
	c.rec.Protection = audit.Encrypted
	if a.contentType == "" {
		a.contentType = "text/xml; charset=utf-8"
	}
	return a, nil
}

// headerText escapes what a header cannot hold, as in a URL.
func headerText(s string) string {
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || c == '%' {
			b.WriteByte('%')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
