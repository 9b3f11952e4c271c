package server

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"spekeasy/internal/requestid"
)

func TestTimeLimitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := newTimeLimit(t.Context(), time.Second, "REQ-1")
		defer limit.release()
		derived, cancel := context.WithCancel(limit)
		defer cancel()
		begin := time.Now()
		<-derived.Done()
		if d := time.Since(begin); d != time.Second || !errors.Is(limit.Err(), context.DeadlineExceeded) || !errors.Is(derived.Err(), context.DeadlineExceeded) {
			t.Errorf("ended after %v with %v and %v", d, limit.Err(), derived.Err())
		}
	})
}

// The time runs from the beginning of the request, not from the first look at
// the context.
func TestTimeLimitCountsFromTheBeginning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := newTimeLimit(t.Context(), time.Second, "REQ-1")
		defer limit.release()
		time.Sleep(2 * time.Second)
		if err := limit.Err(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after the time: %v", err)
		}
	})
}

func TestTimeLimitEndsWithTheConnection(t *testing.T) {
	connection, cancel := context.WithCancel(t.Context())
	limit := newTimeLimit(connection, time.Hour, "REQ-1")
	defer limit.release()
	if err, id := limit.Err(), requestid.From(limit); err != nil || id != "REQ-1" {
		t.Error(err, id)
	}
	cancel()
	<-limit.Done()
	if !errors.Is(limit.Err(), context.Canceled) {
		t.Error(limit.Err())
	}
}

// What still runs when a request is over learns that it is.
func TestTimeLimitRelease(t *testing.T) {
	limit := newTimeLimit(t.Context(), time.Hour, "REQ-1")
	done := limit.Done()
	limit.release()
	<-done
	if !errors.Is(limit.Err(), context.Canceled) {
		t.Error(limit.Err())
	}

	connection, cancel := context.WithCancel(t.Context())
	unused := newTimeLimit(connection, time.Hour, "REQ-1")
	unused.release()
	cancel()
	<-unused.Done()
}
