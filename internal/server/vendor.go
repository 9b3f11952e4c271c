package server

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"spekeasy/internal/auth"
	"spekeasy/internal/kidrule"
	"spekeasy/internal/tenant"
	"spekeasy/speke"
)

// vendor is what a route knows beyond SPEKE, because encryptors that were set
// up for another key provider say it there. It changes what is asked for,
// never how it is answered, so that a team leaves a vendor by changing the
// name of a host.
type vendor struct {
	// tenant is where the request names the tenant. The credential decides;
	// what is named must agree with it.
	tenant part

	// brand is where the request names an application below the tenant.
	brand part

	// override chooses a KID rule for this request alone; ok is false when
	// the request says nothing about it.
	override func(r *http.Request, t *tenant.Tenant) (rule kidrule.Rule, ok bool, err error)
}

// part finds something in a request; "" means that it is not there.
type part func(r *http.Request) string

// inQuery finds a parameter of the query. Vendors' guides write one name in
// several cases.
func inQuery(name string) part {
	return func(r *http.Request) string {
		if r.URL.RawQuery == "" {
			return ""
		}
		for key, values := range r.URL.Query() {
			if strings.EqualFold(key, name) {
				return values[0]
			}
		}
		return ""
	}
}

// inPath finds a wildcard of the route's pattern.
func inPath(name string) part { return func(r *http.Request) string { return r.PathValue(name) } }

func (v *vendor) answerKeys(s *Server, ctx context.Context, w http.ResponseWriter, r *http.Request, body []byte) error {
	return s.answerVendor(ctx, w, r, body, v)
}

// apply holds what the request says about tenant and brand against its
// credential, and returns principal and tenant as this request needs them.
func (v *vendor) apply(r *http.Request, who *auth.Principal, t *tenant.Tenant) (*auth.Principal, *tenant.Tenant, error) {
	if v == nil {
		return who, t, nil
	}
	if v.tenant != nil {
		if name := v.tenant(r); name != "" && !t.Named(name) {
			return nil, nil, fmt.Errorf("the request names a tenant other than its credential's, %s: %w", t.ID, auth.ErrForbidden)
		}
	}
	if v.brand != nil {
		if brand := v.brand(r); brand != "" {
			if tenant.CheckBrand(brand) != nil {
				return nil, nil, unprocessable("Invalid brand")
			}
			branded := *who
			branded.Brand = brand
			who = &branded
		}
	}
	if v.override != nil {
		rule, ok, err := v.override(r, t)
		if err != nil {
			return nil, nil, err
		}
		if ok {
			overridden := *t
			overridden.KIDRule = rule
			t = &overridden
		}
	}
	return who, t, nil
}

func unprocessable(text string) error {
	return &speke.Error{Status: http.StatusUnprocessableEntity, Text: text}
}

// The vendors whose routes we have.
var (
	// Axinom takes the tenant's KID rule on request.
	axinom = &vendor{override: func(r *http.Request, t *tenant.Tenant) (kidrule.Rule, bool, error) {
		switch value := inQuery("overrideKeyIds")(r); {
		case value == "" || strings.EqualFold(value, "false"):
			return kidrule.Rule{}, false, nil
		case strings.EqualFold(value, "true"):
			return t.OverrideRule, true, nil
		}
		return kidrule.Rule{}, false, unprocessable("Unsupported overrideKeyIds")
	}}

	// Insys (drm.cloud) names tenant and brand in the query.
	insys = &vendor{tenant: inQuery("tenantId"), brand: inQuery("brandGuid")}

	// PallyCon names the brand of its service in the path.
	pallycon = &vendor{brand: inPath("brand")}

	// KeyOS names a KID rule in a header. What goes into its own rules is not
	// public; ours of the same purpose answer.
	keyos = &vendor{override: func(r *http.Request, _ *tenant.Tenant) (kidrule.Rule, bool, error) {
		switch r.Header.Get("Kid-Override") {
		case "":
			return kidrule.Rule{}, false, nil
		case "uuidv5":
			return kidrule.UUIDv5, true, nil
		case "keyos-uuidv5":
			return kidrule.UUIDv5Scheme, true, nil
		}
		return kidrule.Rule{}, false, unprocessable("Unsupported kid-override")
	}}

	// Vualto (VUDRM) names the client in the path.
	vudrm = &vendor{tenant: inPath("client")}
)

// axinomError is the header in which Axinom repeats the text of an error.
const axinomError = "X-AxDRM-ErrorMessage"

// vendorRoutes are the paths under which vendors' encryptors ask.
func vendorRoutes() []Route {
	keys := func(path string, v *vendor) Route {
		return Route{Method: http.MethodPost, Path: path, MaxBody: MaxBody, Timeout: requestTimeout, Audited: true, handle: v.answerKeys}
	}
	routes := []Route{
		keys("/api/Speke", axinom),
		keys("/api/SpekeV2", axinom),
		keys("/api/speke", axinom),
		keys("/kms/speke", insys),
		keys("/kms/cpix", insys),
		keys("/live", insys), // of Insys' own gateway
		keys("/vod", insys),
		keys("/cpix/getKey", nil),
		keys("/v1/cpix/{brand}/getKey/{"+auth.PathToken+"...}", pallycon),
		keys("/v2/cpix/{brand}/getKey/{"+auth.PathToken+"...}", pallycon),
		keys("/copyProtection", keyos),
		keys("/{client}/speke", vudrm),
		keys("/v2/speke/{client}", vudrm),
	}
	for i := range routes[:3] {
		routes[i].ErrorHeader = axinomError
	}
	return append(routes, Route{Method: http.MethodGet, Path: "/cpix/getKey/heartbeat", handle: pallyconHeartbeat})
}

// pallyconHeartbeat answers as PallyCon does.
func pallyconHeartbeat(_ *Server, _ context.Context, w http.ResponseWriter, _ *http.Request, _ []byte) error {
	w.Header()["Content-Type"] = contentTypeText
	w.Header()["Cache-Control"] = noStore
	io.WriteString(w, "SUCCESS") //nolint:errcheck // the client is gone, nothing to do
	return nil
}
