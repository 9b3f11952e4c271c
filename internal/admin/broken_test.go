package admin_test

import (
	"errors"
	"testing"

	"spekeasy/adminapi"
	"spekeasy/internal/admin"
	"spekeasy/internal/audit"

	"context"
)

func asError(err error, target **adminapi.Error) bool { return errors.As(err, target) }

// brokenAudit takes no record.
type brokenAudit struct{}

func (brokenAudit) Record(context.Context, *audit.Record) error { return audit.ErrUnavailable }

// breakAudit has the admin API write to an audit log that is out of order.
func (s *server) breakAudit(t *testing.T) {
	t.Helper()
	o := s.AdminAPI.Options
	o.Audit = brokenAudit{}
	broken, err := admin.New(o)
	if err != nil {
		t.Fatal(err)
	}
	s.AdminAPI = broken
}
