package admin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"spekeasy/internal/keystore"
	"spekeasy/internal/tenant"
)

// answer is what is sent, gathered first so that it can be kept or replaced.
// It is an [http.ResponseWriter].
type answer struct {
	Status int
	header http.Header
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.Status = status }
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }

func (a *answer) send(w http.ResponseWriter) {
	for name, values := range a.header {
		w.Header()[name] = values
	}
	w.WriteHeader(a.Status)
	w.Write(a.body.Bytes()) //nolint:errcheck // the client is gone, nothing to do
}

// fail puts a problem in the place of whatever was written.
func (a *answer) fail(err error) {
	a.header, a.body = http.Header{}, bytes.Buffer{}
	var p *problemError
	a.Status, p = toProblem(err)
	text, _ := json.Marshal(p) // it has nothing that does not marshal
	a.header.Set("Content-Type", "application/problem+json")
	a.body.Write(text)
}

// detail returns what a problem says.
func (a *answer) detail() string {
	var p struct {
		Detail string `json:"detail"`
		Errors []struct {
			Message  string `json:"message"`
			Location string `json:"location"`
		} `json:"errors"`
	}
	if json.Unmarshal(a.body.Bytes(), &p) != nil {
		return ""
	}
	for _, e := range p.Errors {
		p.Detail += "; " + e.Location + ": " + e.Message
	}
	return p.Detail
}

// Idempotency keys: the answer to a POST that brought one is kept, sealed, and
// given again to the same admin who sends the same request with the same key,
// so that a client that lost an answer may ask again.

// kept is an answer as it is kept.
type kept struct {
	Fingerprint string
	Done        bool // else the request is under way, or its server died
	Status      int
	Header      http.Header
	Body        []byte
}

const (
	keepFor        = 24 * time.Hour
	maxIdempotency = 255
)

// fingerprint tells requests apart.
func fingerprint(r *http.Request, body []byte) string {
	h := sha256.New()
	h.Write([]byte(r.Method + " " + r.URL.RequestURI() + "\n"))
	h.Write(body)
	return hex.EncodeToString(h.Sum(nil))
}

// once answers a request with an idempotency key: by what was answered
// before, or by do.
func (a *API) once(ctx context.Context, c *call, out *answer, key, print string, do func() error) error {
	if len(key) > maxIdempotency {
		return problem(http.StatusBadRequest, "Idempotency-Key must not have more than 255 characters.")
	}
	sum := sha256.Sum256([]byte(c.admin + "\n" + key))
	d := tenant.Document{Kind: tenant.KindAnswer, ID: hex.EncodeToString(sum[:]), Version: 1}
	stored, err := a.Store.Document(ctx, d.Kind, d.ID)
	switch {
	case errors.Is(err, tenant.ErrAbsent):
	case err != nil:
		return err
	case stored.Deleted || a.Now().Sub(stored.Changed) > keepFor:
		d.Version = stored.Version + 1
	default:
		return a.again(ctx, &stored, out, print)
	}
	if err := a.keep(ctx, &d, &kept{Fingerprint: print}); errors.Is(err, tenant.ErrExists) || errors.Is(err, tenant.ErrChanged) {
		return errUnderWay
	} else if err != nil {
		return err
	}
	err = do()
	d.Version++
	ctx = context.WithoutCancel(ctx)
	if err != nil || out.Status >= http.StatusBadRequest {
		// Nothing happened; the client may correct its request or try again.
		d.Deleted = true
		return errors.Join(err, a.keep(ctx, &d, nil))
	}
	if keepErr := a.keep(ctx, &d, &kept{print, true, out.Status, out.header, out.body.Bytes()}); keepErr != nil {
		a.Log.Error("the answer under an idempotency key is not kept", "request_id", c.requestID, "error", keepErr)
	}
	return nil
}

var errUnderWay = problem(http.StatusConflict, "A request with this Idempotency-Key is under way.")

// again answers what was answered before.
func (a *API) again(ctx context.Context, d *tenant.Document, out *answer, print string) error {
	text, err := a.vault.Open(ctx, d)
	if err != nil {
		return err
	}
	var k kept
	if err := json.Unmarshal(text, &k); err != nil {
		return keystore.ErrCorrupt
	}
	switch {
	case k.Fingerprint != print:
		return problem(http.StatusUnprocessableEntity, "This Idempotency-Key came with another request before.")
	case !k.Done:
		return errUnderWay
	}
	out.Status, out.header = k.Status, k.Header
	out.header.Set("Idempotency-Replayed", "true")
	out.body.Write(k.Body)
	return nil
}

func (a *API) keep(ctx context.Context, d *tenant.Document, k *kept) error {
	var text []byte
	if k != nil {
		var err error
		if text, err = json.Marshal(k); err != nil {
			return err
		}
	}
	if err := a.vault.Seal(ctx, d, keystore.CustodyTenant, text); err != nil {
		return err
	}
	d.Changed = a.stamp()
	if d.Version == 1 {
		return a.Store.CreateDocument(ctx, *d)
	}
	return a.Store.ReplaceDocument(ctx, *d)
}

// Sweep empties what was kept for idempotency keys too long ago.
func (a *API) Sweep(ctx context.Context) error {
	for d, err := range tenant.Documents(ctx, a.Store, tenant.KindAnswer, "", "", 200) {
		if err != nil {
			return err
		}
		if d.Deleted || a.Now().Sub(d.Changed) <= keepFor {
			continue
		}
		d.Version++
		d.Deleted = true
		if err := a.keep(ctx, d, nil); err != nil && !errors.Is(err, tenant.ErrChanged) {
			return err
		}
	}
	return nil
}

// stamp is the time as it is stored.
func (a *API) stamp() time.Time { return a.Now().UTC().Truncate(time.Microsecond) }
