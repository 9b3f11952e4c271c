package playback

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// maxUpstream bounds what a license service may answer, in bytes.
const maxUpstream = 1 << 20

// errUpstream is what a player hears of a license service that does not give
// a license. What that said goes to the log.
func errUpstream(why error) error {
	status := http.StatusBadGateway
	if errors.Is(why, context.DeadlineExceeded) {
		status = http.StatusGatewayTimeout
	}
	return &Error{Status: status, Text: "the license service gave no license", why: why}
}

// post sends a body to a license service and returns its answer of status
// 200. Errors hold no URL and nothing that was sent.
func (s *Service) post(ctx context.Context, to string, header http.Header, body []byte) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return nil, errUpstream(withoutURL(err))
	}
	req.Header = header
	res, err := s.HTTP.Do(req)
	if err != nil {
		return nil, errUpstream(withoutURL(err))
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxUpstream+1))
	switch {
	case err != nil:
		return nil, errUpstream(err)
	case len(b) > maxUpstream:
		return nil, errUpstream(errors.New("its answer is too large"))
	case res.StatusCode != http.StatusOK:
		return nil, errUpstream(fmt.Errorf("it answered with status %d", res.StatusCode))
	}
	return &answer{res.Header.Get("Content-Type"), b}, nil
}

func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}
