package audit

import (
	"fmt"
	"io"
	"time"
)

// Sink keeps the lines of a log. Append is called by one goroutine at a time;
// Sync may be called during an Append.
type Sink interface {
	// Resume returns where the log ended, so that its chain goes on there.
	Resume() State

	// Append takes complete lines. When it returns without an error, they
	// survive the death of this process; with one, none of them counts.
	Append(b *Batch) error

	// Sync returns when everything that was appended before the call
	// survives the death of the machine. The error has a [*SyncError] for the
	// records of which that will never be known.
	Sync() error

	Close() error
}

// Pruner is the ability of a sink to delete old records.
type Pruner interface {
	// Expired returns what to delete when records written before a time are
	// to go.
	Expired(before time.Time) (Expiry, error)

	// Delete deletes that. The log has recorded it, and that record is
	// durable.
	Delete(Expiry) error
}

// Expiry is what a sink is about to delete; the zero Expiry is nothing.
type Expiry struct {
	KeptFrom uint64   // the first record of this log to keep; 0 when it keeps all
	Parts    []string // of a database
}

// State is how a sink found what it keeps.
type State struct {
	At      Position
	Torn    int64  // bytes after the last whole record
	Trouble string // what is wrong with the end of the log; empty for nothing
}

// Batch is a number of consecutive lines.
type Batch struct {
	First    uint64 // number of the first one
	Previous Hash   // of the record before it
	Last     Position
	Time     time.Time // when they were written
	Lines    []byte    // each with its line end
}

// SyncError reports records that may be lost with the machine. Once a file
// system has failed to write something back, it may forget about it, so that
// trying again would prove nothing.
type SyncError struct {
	From, To uint64
	Err      error
}

func (e *SyncError) Error() string {
	return fmt.Sprintf("records %d to %d may not have reached the disk: %v", e.From, e.To, e.Err)
}

func (e *SyncError) Unwrap() error { return e.Err }

// Stream is a sink that writes the lines somewhere and keeps nothing, such as
// standard output. As the only sink of a log it starts a chain of its own in
// every process.
type Stream struct {
	w    io.Writer
	torn bool // the last write ended within a line
}

var _ Sink = (*Stream)(nil)

// NewStream returns a stream.
func NewStream(w io.Writer) *Stream { return &Stream{w: w} }

// Resume returns the beginning of a log.
func (*Stream) Resume() State { return State{} }

// Append writes the lines.
func (s *Stream) Append(b *Batch) error {
	if s.torn {
		if _, err := s.w.Write([]byte{'\n'}); err != nil {
			return err
		}
		s.torn = false
	}
	n, err := s.w.Write(b.Lines)
	s.torn = err != nil && n > 0
	return err
}

// Sync does nothing: what becomes of the lines is up to the reader.
func (*Stream) Sync() error { return nil }

// Close does nothing; the stream is its owner's.
func (*Stream) Close() error { return nil }
