package backup

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"

	"filippo.io/age"

	"spekeasy/internal/keystore"
)

// Errors of a backup file.
var (
	// ErrIncomplete reports a file that ends too early.
	ErrIncomplete = errors.New("the backup is cut off")

	// ErrDamaged reports a file that was changed, or is no backup.
	ErrDamaged = errors.New("the backup is damaged")

	// ErrNewer reports a file of a later version of this program.
	ErrNewer = errors.New("the backup is of a newer version of this program")
)

// maxLine bounds one line, which holds a few texts of a request.
const maxLine = 64 << 20

// Report is what is in a backup.
type Report struct {
	Header
	Counts
	Tenants int
	KEKs    []string // that its data keys are wrapped under, sorted
}

// Verify reads a backup from its beginning to its end, opens every data key
// and content key with the key manager, and reports what is in it. It shows
// no key. progress, which may be nil, is called now and then.
func Verify(ctx context.Context, r io.Reader, identities []age.Identity, kek keystore.KeyManager, progress func(Counts)) (Report, error) {
	report, _, err := verify(ctx, r, identities, kek, progress)
	return report, err
}

// verify also returns the digest of the backup.
func verify(ctx context.Context, r io.Reader, identities []age.Identity, kek keystore.KeyManager, progress func(Counts)) (Report, string, error) {
	v := &verifier{
		opener: keystore.NewOpener(kek), dataKeys: make(map[place]bool),
		tenants: make(map[string]bool), keks: make(map[string]bool),
	}
	in, err := open(r, identities)
	if err != nil {
		return Report{}, "", err
	}
	for l, err := range in.lines(ctx) {
		if err == nil {
			err = v.line(ctx, l)
		}
		if err != nil {
			return Report{}, "", err
		}
		in.tell(progress)
	}
	if !v.tenants[keystore.CustodyTenant] {
		return Report{}, "", fmt.Errorf("%w: it has no custody record", ErrDamaged)
	}
	return Report{in.header, in.counts, len(v.tenants) - 1, slices.Sorted(maps.Keys(v.keks))}, in.sum, nil
}

type place struct {
	tenant string
	id     uint32
}

// verifier judges the rows of a backup.
type verifier struct {
	opener   *keystore.Opener
	dataKeys map[place]bool
	tenants  map[string]bool
	keks     map[string]bool
}

func (v *verifier) line(ctx context.Context, l *line) error {
	switch {
	case l.DataKey != nil:
		d := l.DataKey
		if v.dataKeys[place{d.Tenant, d.ID}] {
			return fmt.Errorf("%w: data key %d of %s is in it twice", ErrDamaged, d.ID, d.Tenant)
		}
		v.dataKeys[place{d.Tenant, d.ID}], v.tenants[d.Tenant], v.keks[d.KEK] = true, true, true
		return v.opener.Add(ctx, keystore.DataKey(*d))
	case l.Key != nil:
		r := keystore.Record(*l.Key)
		if !v.dataKeys[place{r.Tenant, r.DataKey}] {
			return fmt.Errorf("%w: content key %s comes before its data key", ErrDamaged, r.KID)
		}
		return v.opener.Check(&r)
	case l.Document != nil:
		return v.document(l.Document)
	case l.Binding != nil && !v.tenants[l.Binding.Tenant]:
		return fmt.Errorf("%w: a binding of tenant %s comes before its data keys", ErrDamaged, l.Binding.Tenant)
	default:
		return nil
	}
}

// reader reads a backup.
type reader struct {
	in     *bufio.Reader
	header Header
	counts Counts
	sum    string // digest of all but the last line, once that was read
}

func (r *reader) tell(progress func(Counts)) {
	if progress != nil && (r.counts.Keys+r.counts.Bindings)%1000 == 0 {
		progress(r.counts)
	}
}

// open decrypts a backup and reads its header.
func open(r io.Reader, identities []age.Identity) (*reader, error) {
	plain, err := age.Decrypt(r, identities...)
	if err != nil {
		if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
			return nil, errors.New("the backup is not encrypted to this identity, or with this passphrase")
		}
		return nil, fmt.Errorf("%w: it cannot be decrypted: %w", ErrDamaged, err)
	}
	unzipped, err := gzip.NewReader(plain)
	if err != nil {
		return nil, damage(err)
	}
	return &reader{in: bufio.NewReaderSize(unzipped, 64<<10)}, nil
}

// damage names what an error in the middle of a file means.
func damage(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrIncomplete
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

// lines walks the rows, and ends with an error unless the file is whole. What
// it yields is proven only once the walk has ended.
func (r *reader) lines(ctx context.Context) iter.Seq2[*line, error] {
	return func(yield func(*line, error) bool) {
		sum := sha256.New()
		for n := 1; ; n++ {
			text, err := r.line()
			var l line
			if err == nil {
				err = r.parse(text, n, &l)
			}
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if l.End != nil {
				r.sum = hex.EncodeToString(sum.Sum(nil))
				if err := r.end(l.End); err != nil {
					yield(nil, err)
				}
				return
			}
			sum.Write(text)
			if l.Header == nil && !yield(&l, nil) {
				return
			}
		}
	}
}

// line returns the next line with its end.
func (r *reader) line() ([]byte, error) {
	text, err := r.in.ReadSlice('\n')
	if err == nil {
		return text, nil
	}
	long := bytes.Clone(text)
	for errors.Is(err, bufio.ErrBufferFull) && len(long) < maxLine {
		text, err = r.in.ReadSlice('\n')
		long = append(long, text...)
	}
	if err != nil {
		return nil, damage(err)
	}
	return long, nil
}

// parse reads one line and counts it.
func (r *reader) parse(text []byte, n int, l *line) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if n == 1 { // which a newer program may have given more members
		d = json.NewDecoder(bytes.NewReader(text))
	}
	if err := d.Decode(l); err != nil || d.More() {
		return fmt.Errorf("%w: line %d cannot be read", ErrDamaged, n)
	}
	kinds := 0
	for _, is := range []bool{l.Header != nil, l.DataKey != nil, l.Binding != nil, l.Key != nil, l.Document != nil, l.End != nil} {
		if is {
			kinds++
		}
	}
	if kinds != 1 || (n == 1) != (l.Header != nil) {
		return fmt.Errorf("%w: line %d is not what it should be", ErrDamaged, n)
	}
	switch {
	case l.DataKey != nil:
		r.counts.DataKeys++
	case l.Binding != nil:
		r.counts.Bindings++
	case l.Key != nil:
		r.counts.Keys++
	case l.Document != nil:
		r.counts.Documents++
	}
	if l.Header != nil {
		r.header = *l.Header
		if r.header.Version > Version {
			return fmt.Errorf("%w: format %d, written by %s", ErrNewer, r.header.Version, r.header.Program)
		}
		if r.header.Version < 1 {
			return fmt.Errorf("%w: it has no version", ErrDamaged)
		}
	}
	return nil
}

// end compares the last line with what was read, and reads on to the end of
// the file: only there its parts are proven to be all.
func (r *reader) end(e *end) error {
	if e.SHA256 != r.sum || e.Counts != r.counts {
		return fmt.Errorf("%w: it has %+v, but says %+v", ErrDamaged, r.counts, e.Counts)
	}
	n, err := io.Copy(io.Discard, r.in)
	if err != nil {
		return damage(err)
	}
	if n > 0 {
		return fmt.Errorf("%w: it goes on after its end", ErrDamaged)
	}
	return nil
}
