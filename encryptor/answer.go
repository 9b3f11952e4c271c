package encryptor

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"spekeasy/contentkey"
	"spekeasy/cpix"
	"spekeasy/internal/xmltree"
)

// Answer is a key provider's answer to a [Request]. Printing it shows no
// content keys.
type Answer struct {
	UserAgent string // X-Speke-User-Agent, in v1 Speke-User-Agent
	ContentID string
	Encrypted bool  // the content keys came encrypted
	Keys      []Key // in document order

	request *Request
	header  http.Header
	body    []byte
	doc     *cpix.Document
	tree    *xmltree.Doc

	keys     []int // by content key of the request: that of the answer, or -1
	override map[contentkey.KID]contentkey.KID
	moved    bool // the keys came in another order

	openErr   error   // why the encrypted keys do not open
	valueErrs []error // by content key of the answer
}

// ReadAnswer reads an answer: its keys, opened with the recipients of the
// request if need be, and their signaling. The error says that the body is not
// a CPIX document; whatever else is wrong with it is for [Answer.Check] to
// say, and what cannot be read is left out.
func ReadAnswer(r *Request, header http.Header, body []byte) (*Answer, error) {
	doc, err := cpix.Parse(body)
	if err != nil {
		return nil, fmt.Errorf("key provider's answer: %w", err)
	}
	tree, err := xmltree.Parse(string(body))
	if err != nil {
		return nil, fmt.Errorf("key provider's answer: %w", err)
	}
	a := &Answer{
		UserAgent: header.Get(headerUserAgentV1), ContentID: doc.ID, Encrypted: doc.Lists.DeliveryData > 0,
		Keys: readKeys(doc), request: r, header: header, body: body, doc: doc, tree: tree,
	}
	if r.v2() {
		a.UserAgent, a.ContentID = header.Get(headerUserAgent), doc.ContentID
	}
	a.pairKeys()
	a.readValues()
	return a, nil
}

// Body returns the document, which may hold content keys in clear.
func (a *Answer) Body() []byte { return a.body }

// Header returns the HTTP headers that came with the document.
func (a *Answer) Header() http.Header { return a.header }

// Format hides content keys from every verb of package fmt.
func (a Answer) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, fmt.Sprintf("(answer for content %q with %d content keys)", a.ContentID, len(a.Keys)))
}

// pairKeys finds the answer to each content key: by key ID, or by its place
// when some were overridden (SX-KID-01).
func (a *Answer) pairKeys() {
	want, got := a.request.Keys, a.Keys
	index := make(map[contentkey.KID]int, len(got))
	for i := range got {
		if _, ok := index[got[i].KID]; !ok {
			index[got[i].KID] = i
		}
	}
	a.keys = make([]int, len(want))
	same := true
	for i := range want {
		var ok bool
		if a.keys[i], ok = index[want[i].KID]; !ok {
			a.keys[i], same = -1, false
		}
		if same && i > 0 && a.keys[i] < a.keys[i-1] {
			a.moved = true
		}
	}
	if !same && len(want) == len(got) {
		a.moved = false
		for i := range a.keys {
			a.keys[i] = i
		}
	}
	a.override = make(map[contentkey.KID]contentkey.KID, len(want))
	for i, j := range a.keys {
		if j < 0 {
			continue
		}
		got[j].Requested = want[i].KID
		if _, ok := a.override[want[i].KID]; !ok {
			a.override[want[i].KID] = got[j].KID
		}
	}
}

// readValues reads the content keys, encrypted ones with the first recipient
// whose private key is known.
func (a *Answer) readValues() {
	a.valueErrs = make([]error, len(a.Keys))
	var opener *cpix.Opener
	if a.Encrypted {
		a.openErr = errNoKey
		for _, r := range a.request.recipients {
			if r == nil || r.Key == nil {
				continue
			}
			if opener, a.openErr = a.doc.Opener(r.Key, r.Certificate); a.openErr == nil {
				break
			}
		}
	}
	for i := range a.Keys {
		k, s := &a.Keys[i], &a.doc.ContentKeys[i].Secret
		var err error
		switch {
		case s.CipherValue == "":
			k.Value, err = s.Plain()
		case opener != nil:
			k.Value, err = opener.Open(s)
		default:
			err = errNoKey
		}
		a.valueErrs[i], k.HasValue = err, err == nil
	}
}

// errNoKey says that content keys stay closed since no private key is known.
var errNoKey = errors.New("no private key to open it with")

// Violation is one way in which an answer breaks the rules.
type Violation struct {
	Rule    string // such as "S2-ERR-20"
	Message string // where and what; never holds key material

	// Advice marks what is recommended only, so that an encryptor goes on.
	Advice bool
}

func (v Violation) String() string { return v.Rule + ": " + v.Message }

// checker collects the violations of one answer.
type checker struct {
	*Answer
	v2          bool
	out         []Violation
	systemPairs []int // by DRMSystem of the request: that of the answer, or -1
}

func (c *checker) add(rule, format string, args ...any) {
	c.out = append(c.out, Violation{Rule: rule, Message: fmt.Sprintf(format, args...)})
}

func (c *checker) advise(rule, format string, args ...any) {
	c.out = append(c.out, Violation{Rule: rule, Message: fmt.Sprintf(format, args...), Advice: true})
}

// by returns the rule for the version of the request.
func (c *checker) by(v1, v2 string) string {
	if c.v2 {
		return v2
	}
	return v1
}

// Check reads and checks an answer in one go, for those who want nothing else
// of it. A body that is no CPIX document is a violation of SX-HTTP-01.
func Check(r *Request, header http.Header, body []byte) []Violation {
	a, err := ReadAnswer(r, header, body)
	if err != nil {
		return []Violation{{Rule: "SX-HTTP-01", Message: err.Error()}}
	}
	return a.Check()
}

// Check returns everything in which the answer breaks the rules of SPEKE: in
// its headers, in what it changed of the request, in its content keys and in
// its signaling. An encryptor stops at any of these but advice (S2-ERR-06).
// The checks follow no schema, as SPEKE traffic follows none (D-18).
func (a *Answer) Check() []Violation {
	c := &checker{Answer: a, v2: a.request.v2()}
	c.headers()
	c.root()
	c.systemPairs = c.pairSystems()
	c.echo()
	c.contentKeys()
	c.encryption()
	c.systems()
	return c.out
}

// quote shows a text of the answer, cut short.
func quote(s string) string {
	if len(s) > 100 {
		s = strings.ToValidUTF8(s[:100], "") + "..."
	}
	return fmt.Sprintf("%q", s)
}
