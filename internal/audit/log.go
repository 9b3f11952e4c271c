package audit

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// syncDelay is how long a record may wait for a sync to begin, half of the
	// 100 ms that are promised: the rest is the disk's.
	syncDelay = 50 * time.Millisecond

	// upkeep is the time between checkpoints, and between looks for records
	// that are too old.
	upkeep = time.Hour

	// What one burst needed is given back above these sizes, in bytes.
	keepLines  = 1 << 20
	keepRecord = 16 << 10
)

// Options are the optional settings of [Open].
type Options struct {
	// SyncFirst makes every record wait until it would survive the death of
	// the machine. Otherwise it survives the death of the process, and within
	// 100 ms that of the machine.
	SyncFirst bool

	// Retain is how long records are kept; 0 means for ever.
	Retain time.Duration

	// Server says in the log which process goes on with it.
	Server string

	Now func() time.Time // time.Now by default
	Log *slog.Logger     // nothing by default
}

// Log numbers records, chains them and has them written. It is safe for
// concurrent use.
//
// Whoever brings a record while nobody writes, writes it himself. Records that
// come meanwhile are written together by a goroutine of the log, so that they
// share the write and, with SyncFirst, the sync.
type Log struct {
	o     Options
	sinks []Sink // the first one holds the chain

	entries sync.Pool // of *entry

	mu     sync.Mutex
	idle   sync.Cond // busy became false
	busy   bool      // somebody writes, or has been told to
	closed bool
	queue  []*entry
	notes  [][]byte // records of the log's own, to be written before others
	last   Position
	told   Position // the last checkpoint
	failed error    // of the latest write

	// Of whoever writes.
	spare []*entry
	batch Batch
	chain chain

	takeOver chan struct{} // the writer goroutine goes on
	dirty    chan struct{} // there is something to sync
	quit     chan struct{}
	done     sync.WaitGroup
}

// entry is a record that waits to be written.
type entry struct {
	members []byte
	err     chan error // holds one
}

// Open goes on with a log and records that it did. The first sink holds the
// chain; the others get the same lines. The sinks belong to the log from here
// on, even when there is an error.
func Open(o Options, sink Sink, more ...Sink) (*Log, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	l := &Log{
		o: o, sinks: append([]Sink{sink}, more...),
		takeOver: make(chan struct{}, 1), dirty: make(chan struct{}, 1), quit: make(chan struct{}),
	}
	l.idle.L = &l.mu
	l.entries.New = func() any { return &entry{err: make(chan error, 1)} }
	found := sink.Resume()
	l.last = found.At
	if found.Trouble != "" || found.Torn > 0 {
		o.Log.Error("the end of the audit log is damaged", "record", found.At.Seq, "torn_bytes", found.Torn, "trouble", found.Trouble)
	}
	l.done.Go(l.write)
	l.done.Go(l.keep)
	start := &Record{Event: serverStart, Server: o.Server, Previous: found.At.Hash, Torn: found.Torn, Error: found.Trouble}
	if err := l.Record(context.Background(), start); err != nil {
		return nil, errors.Join(err, l.shut())
	}
	l.checkpoint()
	l.prune()
	return l, nil
}

// Record writes a record. Any error means that it may be lost, and wraps
// [ErrUnavailable]; r is not kept. When ctx ends first, the record may still
// be written.
func (l *Log) Record(ctx context.Context, r *Record) error {
	e := l.entries.Get().(*entry)
	e.members = r.appendMembers(e.members[:0])
	if n := len(e.members); n > maxLine/2 {
		return fmt.Errorf("%w: a record of %d bytes is too long", ErrUnavailable, n)
	}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return fmt.Errorf("%w: closed", ErrUnavailable)
	}
	l.queue = append(l.queue, e)
	mine := !l.busy
	l.busy = true
	l.mu.Unlock()
	var err error
	if mine {
		l.writeQueue()
		err = <-e.err
	} else {
		select {
		case err = <-e.err:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err()) // e is still in use
		}
	}
	if cap(e.members) <= keepRecord {
		l.entries.Put(e)
	}
	return err
}

// Check reports whether records can be written. After a failure it tries to
// write one that says so: a server that is sent no requests because of the
// failure would not find out otherwise that it is over.
func (l *Log) Check(ctx context.Context) error {
	l.mu.Lock()
	failed := l.failed
	l.mu.Unlock()
	if failed == nil {
		return nil
	}
	return l.Record(ctx, &Record{Event: writeFailed, Error: failed.Error()})
}

// write goes on with the queue whenever somebody leaves it behind.
func (l *Log) write() {
	for {
		select {
		case <-l.takeOver:
			l.writeQueue()
		case <-l.quit:
			return
		}
	}
}

// writeQueue writes what waits, all of it together. The caller has set busy.
func (l *Log) writeQueue() {
	l.mu.Lock()
	batch, notes, at := l.queue, l.notes, l.last
	l.queue, l.notes = l.spare, nil
	l.mu.Unlock()

	at, err := l.append(at, notes, batch)
	for _, e := range batch {
		e.err <- err
	}
	clear(batch)

	l.mu.Lock()
	if len(batch)+len(notes) > 0 {
		l.failed = err
	}
	l.spare = batch[:0]
	if at == l.last {
		l.notes = append(notes, l.notes...)
	}
	l.last = at
	l.busy = len(l.queue) > 0
	if l.busy {
		l.takeOver <- struct{}{}
	} else {
		l.idle.Broadcast()
	}
	l.mu.Unlock()
}

// append chains and writes records, and returns where the log now ends. It may
// have moved on even though there is an error.
func (l *Log) append(at Position, notes [][]byte, batch []*entry) (Position, error) {
	now := l.o.Now().UTC()
	if cap(l.batch.Lines) > keepLines {
		l.batch.Lines, l.chain.text = nil, nil
	}
	b := &l.batch
	*b = Batch{First: at.Seq + 1, Previous: at.Hash, Last: at, Time: now, Lines: b.Lines[:0]}
	for _, members := range notes {
		b.Lines = l.appendLine(b.Lines, &b.Last, now, members)
	}
	for _, e := range batch {
		b.Lines = l.appendLine(b.Lines, &b.Last, now, e.members)
	}
	if b.Last == at {
		return at, nil
	}
	if err := l.sinks[0].Append(b); err != nil {
		return at, l.unavailable(err)
	}
	for _, s := range l.sinks[1:] {
		if err := s.Append(b); err != nil {
			return b.Last, l.unavailable(err)
		}
	}
	if l.o.SyncFirst {
		if err := l.sync(); err != nil {
			return b.Last, l.unavailable(err)
		}
	} else {
		select {
		case l.dirty <- struct{}{}:
		default:
		}
	}
	return b.Last, nil
}

// appendLine appends the line of a record and moves at on to it.
func (l *Log) appendLine(b []byte, at *Position, now time.Time, members []byte) []byte {
	start := len(b)
	at.Seq++
	b = strconv.AppendUint(append(b, lineSeq...), at.Seq, 10)
	b = now.AppendFormat(append(b, lineTime...), timeFormat)
	b = append(append(b, lineEvent...), members...)
	at.Hash = l.chain.next(at.Hash, b[start:])
	b = hex.AppendEncode(append(b, lineHash...), at.Hash[:])
	return append(append(b, lineEnd...), '\n')
}

// unavailable is the answer to whoever waits for a record.
func (l *Log) unavailable(err error) error {
	l.noteLoss(err)
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// noteLoss says loudly that a sync failed, and leaves a record of it to be
// written before the next one.
func (l *Log) noteLoss(err error) {
	lost, ok := errors.AsType[*SyncError](err)
	if !ok {
		return
	}
	l.o.Log.Error("audit records may be lost; the segment is given up", "from", lost.From, "to", lost.To, "error", lost.Err)
	r := &Record{Event: syncFailed, Error: lost.Error()}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.notes = append(l.notes, r.appendMembers(nil))
}

// writeNotes has the notes written now, not only with the next record.
func (l *Log) writeNotes() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.busy {
		l.busy = true
		l.takeOver <- struct{}{}
	}
}

func (l *Log) sync() error {
	var errs []error
	for _, s := range l.sinks {
		errs = append(errs, s.Sync())
	}
	return errors.Join(errs...)
}

// keep syncs soon after something was written, and does the upkeep.
func (l *Log) keep() {
	tick := time.NewTicker(upkeep)
	defer tick.Stop()
	for {
		select {
		case <-l.dirty:
			select {
			case <-time.After(syncDelay):
			case <-l.quit:
				return
			}
			if err := l.sync(); err != nil {
				l.noteLoss(err)
				l.writeNotes()
			}
		case <-tick.C:
			l.checkpoint()
			l.prune()
		case <-l.quit:
			return
		}
	}
}

// checkpoint says in the server's own log where the audit log ends. Kept
// elsewhere, it proves later that nothing before it was changed.
func (l *Log) checkpoint() {
	l.mu.Lock()
	last, changed := l.last, l.last != l.told
	l.told = last
	l.mu.Unlock()
	if changed {
		l.o.Log.Info("audit checkpoint", "record", last.String())
	}
}

// prune deletes records that are older than they are to be kept. First it
// records that it will, so that a deletion by others is told apart.
func (l *Log) prune() {
	if l.o.Retain <= 0 {
		return
	}
	for _, s := range l.sinks {
		p, ok := s.(Pruner)
		for more := ok; more; {
			var err error
			if more, err = l.pruneSome(p); err != nil {
				l.o.Log.Error("old audit records are not deleted", "error", err)
				more = false
			}
		}
	}
}

// pruneSome deletes what a sink names at once, and reports whether to ask
// again.
func (l *Log) pruneSome(p Pruner) (more bool, err error) {
	e, err := p.Expired(l.o.Now().Add(-l.o.Retain))
	if err != nil || e.KeptFrom == 0 && len(e.Parts) == 0 {
		return false, err
	}
	if err := l.Record(context.Background(), &Record{Event: retention, KeptFrom: e.KeptFrom, Change: strings.Join(e.Parts, " ")}); err != nil {
		return false, err
	}
	if err := l.sync(); err != nil {
		return false, err
	}
	if err := p.Delete(e); err != nil {
		return false, err
	}
	l.o.Log.Info("old audit records deleted", "kept_from", e.KeptFrom, "parts", len(e.Parts))
	return len(e.Parts) == maxParts, nil
}

// Close records the end, makes everything durable and closes the sinks.
func (l *Log) Close(ctx context.Context) error {
	err := l.Record(ctx, &Record{Event: serverStop})
	return errors.Join(err, l.shut())
}

// shut refuses further records, waits for those under way, and takes
// everything down.
func (l *Log) shut() error {
	l.mu.Lock()
	l.closed = true
	for l.busy {
		l.idle.Wait()
	}
	l.mu.Unlock()
	close(l.quit)
	l.done.Wait()
	errs := []error{l.sync()}
	l.checkpoint()
	for _, s := range l.sinks {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}
