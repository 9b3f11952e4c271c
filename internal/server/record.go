package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"spekeasy/internal/audit"
	"spekeasy/speke"
)

// refusal is the error of a key request, with what was known of the request by
// then.
type refusal struct {
	error
	record *audit.Record
}

func (e *refusal) Unwrap() error { return e.error }

// setDelivered puts into a record what the answer gives away.
func setDelivered(rec *audit.Record, req *speke.Request, answer *speke.Answer) {
	rec.Result, rec.Created, rec.Upstream = audit.Delivered, answer.Created, answer.Source
	rec.Protection, rec.Recipients = audit.Clear, answer.Recipients
	if len(answer.Recipients) > 0 {
		rec.Protection = audit.Encrypted
	}
	rec.KIDs = answer.KIDs
	for i, kid := range answer.KIDs {
		if req.Keys[i].KID != kid {
			rec.Requested = req.KIDs()
			break
		}
	}
}

// recordRefusal records that a key request ends in an error, and returns the
// error to answer: another one, when the record cannot be written.
func (s *Server) recordRefusal(ctx context.Context, r *http.Request, id string, err error) error {
	rec := new(audit.Record)
	if e, ok := errors.AsType[*refusal](err); ok {
		rec = e.record
	}
	if e, ok := errors.AsType[*speke.Error](err); ok && rec.ContentID == "" {
		rec.ContentID, rec.KIDs = e.ContentID, e.KIDs
	}
	rec.Event, rec.RequestID, rec.Remote = audit.KeyRequest, id, s.auth.Remote(r)
	rec.Protection, rec.Recipients = "", nil // nothing left
	rec.Error = err.Error()
	rec.Status, _ = answerTo(err)
	rec.Result = audit.Refused
	if rec.Status >= http.StatusInternalServerError {
		rec.Result = audit.Failed
	}
	if failure := s.audit.Record(ctx, rec); failure != nil {
		return fmt.Errorf("%w; it was to record status %d: %s", failure, rec.Status, rec.Error)
	}
	return err
}
