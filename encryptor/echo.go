package encryptor

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"spekeasy/contentkey"
	"spekeasy/cpix"
	"spekeasy/internal/xmltree"
)

// An echo rule says what may differ between an element of the request and
// the one that answers it. All else must be the same (S2-ECHO-12): names,
// order, attributes and text. Prefixes, comments and white space are free.
type echoRule struct {
	rule string // what a difference breaks

	attrRules map[string]string // what a difference in an attribute breaks, if not rule
	free      string            // attribute that is compared elsewhere
	mayGain   []string          // attributes that may be added, or set where they are empty
	mayLose   []string          // attributes that may be dropped

	added   string                                   // what an unexpected child breaks, if not rule
	mayAdd  func(*xmltree.Element) bool              // children that may be added
	mayDrop func(*xmltree.Element) bool              // children that may be missing
	child   func(path string, r, a *xmltree.Element) // compares a pair of children
}

// echo holds S2-ECHO-01 to -12, S1-ECHO-11 and S2-ERR-22: it compares the
// answer's tree with the request's outside the edits that are allowed.
func (c *checker) echo() {
	var id []string // reported by root, as are lists and signatures
	if c.v2 {
		id = []string{"id"}
	}
	counted := func(e *xmltree.Element) bool { return isSignature(e) || isList(e) }
	c.same("CPIX", c.request.tree.Root(), c.tree.Root(), &echoRule{
		rule:      "S2-ECHO-12",
		attrRules: map[string]string{"contentId": "S2-ECHO-02", "version": "S2-ECHO-02", "id": "S1-ECHO-11"},
		mayGain:   id,
		mayLose:   id,
		mayAdd:    counted,
		mayDrop:   counted,
		child:     c.list,
	})
	c.echoKeys()
	c.echoSystems()
	c.echoRules()
}

func isSignature(e *xmltree.Element) bool {
	return e.Local() == "Signature" && e.Space() == cpix.NamespaceDS
}

// isList reports whether an element is a list that [checker.root] counts.
func isList(e *xmltree.Element) bool {
	switch e.Local() {
	case "DeliveryDataList", "ContentKeyList", "DRMSystemList", "ContentKeyPeriodList", "ContentKeyUsageRuleList":
		return e.Space() == cpix.Namespace
	}
	return false
}

// isV1 reports whether an element is gone in SPEKE v2 (S2-PAY-06). Then it may
// be missing, and root reports it if it is there.
func (c *checker) isV1(e *xmltree.Element) bool {
	return c.v2 && e != nil && (e.Space() == cpix.NamespaceSPEKE || e.Space() == cpix.Namespace && e.Local() == "URIExtXKey")
}

// list compares a pair of children of the root. The entries of three of the
// lists are compared as pairs of the whole document.
func (c *checker) list(path string, r, a *xmltree.Element) {
	switch {
	case !isList(r):
		c.identical(path, r, a, "S2-ECHO-12")
	case r.Local() == "ContentKeyPeriodList":
		c.identical(path, r, a, c.by("S1-ECHO-11", "S2-ECHO-07"))
	case r.Local() == "DeliveryDataList":
		c.same(path, r, a, &echoRule{rule: "S2-ECHO-10", child: c.deliveryData})
	default:
		isItem := func(e *xmltree.Element) bool {
			return e.Local() == strings.TrimSuffix(r.Local(), "List") && e.Space() == cpix.Namespace
		}
		c.same(path, r, a, &echoRule{rule: "S2-ECHO-12", mayAdd: isItem, mayDrop: isItem, child: func(path string, r, a *xmltree.Element) {
			if !isItem(r) {
				c.identical(path, r, a, "S2-ECHO-12")
			}
		}})
	}
}

func (c *checker) deliveryData(path string, r, a *xmltree.Element) {
	c.same(path, r, a, &echoRule{
		rule:   "S2-ECHO-10",
		mayAdd: func(e *xmltree.Element) bool { return e.Local() == "DocumentKey" || e.Local() == "MACMethod" },
		child:  func(path string, r, a *xmltree.Element) { c.identical(path, r, a, "S2-ECHO-10") },
	})
}

// items returns the entries of all lists of that name under the root, as
// package cpix counts them.
func items(root *xmltree.Element, list, item string) []*xmltree.Element {
	var out []*xmltree.Element
	for l := range children(root) {
		if l.Local() != list || l.Space() != cpix.Namespace {
			continue
		}
		for e := range children(l) {
			if e.Local() == item && e.Space() == cpix.Namespace {
				out = append(out, e)
			}
		}
	}
	return out
}

func (c *checker) both(list, item string) (r, a []*xmltree.Element) {
	return items(c.request.tree.Root(), list, item), items(c.tree.Root(), list, item)
}

// echoKeys compares the ContentKey elements.
func (c *checker) echoKeys() {
	rule := c.by("S1-ECHO-11", "S2-ECHO-04")
	rs, as := c.both("ContentKeyList", "ContentKey")
	if len(rs) != len(as) {
		c.add(rule, "%d ContentKey elements, want %d", len(as), len(rs))
	} else if c.moved {
		c.add(rule, "the ContentKey elements stand in another order")
	}
	for i, j := range c.keys {
		if j < 0 {
			c.add(rule, "no ContentKey for key ID %s", c.request.Keys[i].KID)
			continue
		}
		c.same("ContentKey "+strconv.Itoa(j+1), rs[i], as[j], &echoRule{
			rule:      "S2-ECHO-12",
			attrRules: map[string]string{"commonEncryptionScheme": "S2-ECHO-03", "explicitIV": "S2-ECHO-09"},
			free:      "kid",
			mayGain:   []string{"explicitIV"},
			mayAdd: func(e *xmltree.Element) bool {
				if e.Local() == "HDCPData" && e.Space() == cpix.Namespace && c.request.Version != V21 {
					c.add("S21-PAY-75", "ContentKey %d: HDCPData needs SPEKE 2.1", j+1)
					return true
				}
				return e.Local() == "Data" || e.Local() == "HDCPData"
			},
			mayDrop: isData,
			child: func(path string, r, a *xmltree.Element) {
				if !isData(r) {
					c.identical(path, r, a, "S2-ECHO-12")
				}
			},
		})
	}
}

func isData(e *xmltree.Element) bool { return e.Local() == "Data" && e.Space() == cpix.Namespace }

// pairSystems finds the DRMSystem element that answers each one of the
// request, -1 for none: by key ID and system ID, and what is left by its
// place.
func (c *checker) pairSystems() []int {
	want, got := c.request.doc.DRMSystems, c.doc.DRMSystems
	type place struct{ kid, system string }
	free := make(map[place][]int, len(got))
	for j := range got {
		at := place{strings.ToLower(got[j].KID), strings.ToLower(got[j].SystemID)}
		free[at] = append(free[at], j)
	}
	pairs := make([]int, len(want))
	taken := make([]bool, len(got))
	last, moved := -1, false
	for i := range want {
		at := place{strings.ToLower(want[i].KID), strings.ToLower(want[i].SystemID)}
		if kid, err := contentkey.ParseKID(at.kid); err == nil {
			if to, ok := c.override[kid]; ok {
				at.kid = to.String()
			}
		}
		pairs[i] = -1
		if left := free[at]; len(left) > 0 {
			j := left[0]
			free[at] = left[1:]
			pairs[i], taken[j] = j, true
			moved = moved || j < last
			last = max(last, j)
		}
	}
	rule := c.by("S1-ECHO-11", "S2-ECHO-04")
	if len(want) != len(got) {
		c.add(rule, "%d DRMSystem elements, want %d", len(got), len(want))
		return pairs
	}
	if moved {
		c.add(rule, "the DRMSystem elements stand in another order")
	}
	for i, j := 0, 0; i < len(pairs); i++ {
		if pairs[i] >= 0 {
			continue
		}
		for taken[j] {
			j++
		}
		pairs[i], taken[j] = j, true
	}
	return pairs
}

// echoSystems compares the DRMSystem elements.
func (c *checker) echoSystems() {
	rs, as := c.both("DRMSystemList", "DRMSystem")
	v21 := c.request.Version == V21
	for i, j := range c.systemPairs {
		if j < 0 {
			continue
		}
		path := "DRMSystem " + strconv.Itoa(j+1)
		c.kid(path, c.request.doc.DRMSystems[i].KID, c.doc.DRMSystems[j].KID)
		if !v21 && as[j].Attr("HLSAllowedCPC") != nil && rs[i].Attr("HLSAllowedCPC") == nil {
			c.add("S21-PAY-75", "%s: HLSAllowedCPC needs SPEKE 2.1", path)
		}
		c.same(path, rs[i], as[j], &echoRule{
			rule:      "S2-ECHO-12",
			attrRules: map[string]string{"systemId": c.by("S1-ECHO-11", "S2-ECHO-05")},
			free:      "kid",
			mayGain:   []string{"HLSAllowedCPC"},
			added:     c.by("S1-PAY-10", "S2-PAY-42"),
			mayDrop:   isSignal, // judged with what the system needs
			child: func(path string, r, a *xmltree.Element) {
				if !isSignal(r) {
					c.identical(path, r, a, "S2-ECHO-12")
					return
				}
				if !v21 && a.Attr("robustness") != nil && r.Attr("robustness") == nil {
					c.add("S21-PAY-75", "%s: robustness needs SPEKE 2.1", path)
				}
				c.attrs(path, r, a, &echoRule{rule: "S2-ECHO-12", mayGain: []string{"robustness"}})
			},
		})
	}
}

// isSignal reports whether an element is one of the placeholders.
func isSignal(e *xmltree.Element) bool {
	switch e.Space() {
	case cpix.Namespace:
		switch e.Local() {
		case "PSSH", "ContentProtectionData", "HLSSignalingData", "SmoothStreamingProtectionHeaderData", "URIExtXKey":
			return true
		}
	case cpix.NamespaceSPEKE:
		switch e.Local() {
		case "KeyFormat", "KeyFormatVersions", "ProtectionHeader":
			return true
		}
	}
	return false
}

// echoRules compares the usage rules, which are the encryption contract.
func (c *checker) echoRules() {
	rule := c.by("S1-ECHO-11", "S2-ERR-22")
	rs, as := c.both("ContentKeyUsageRuleList", "ContentKeyUsageRule")
	if len(rs) != len(as) {
		c.add(rule, "%d usage rules, want %d", len(as), len(rs))
		return
	}
	for i := range rs {
		path := "ContentKeyUsageRule " + strconv.Itoa(i+1)
		c.kid(path, c.request.doc.UsageRules[i].KID, c.doc.UsageRules[i].KID)
		c.same(path, rs[i], as[i], &echoRule{rule: rule, free: "kid", child: func(path string, r, a *xmltree.Element) {
			if r.Local() == "KeyPeriodFilter" {
				c.identical(path, r, a, c.by("S1-ECHO-11", "S2-ECHO-07"))
				return
			}
			c.identical(path, r, a, rule)
		}})
	}
}

// kid holds SX-KID-02: a key ID is the one that the content key got.
func (c *checker) kid(path, want, got string) {
	to := want
	if kid, err := contentkey.ParseKID(want); err == nil {
		if k, ok := c.override[kid]; ok {
			to = k.String()
		}
	}
	if !strings.EqualFold(got, to) {
		c.add("SX-KID-02", "%s: key ID is %s, want %s", path, quote(got), to)
	}
}

// identical compares elements of which nothing may differ.
func (c *checker) identical(path string, r, a *xmltree.Element, rule string) {
	c.same(path, r, a, &echoRule{rule: rule, child: func(path string, r, a *xmltree.Element) { c.identical(path, r, a, rule) }})
}

// same compares a pair of elements under a rule.
func (c *checker) same(path string, r, a *xmltree.Element, rule *echoRule) {
	c.attrs(path, r, a, rule)
	if r.FirstChild() == nil && a.FirstChild() == nil && strings.Join(strings.Fields(r.Text()), " ") != strings.Join(strings.Fields(a.Text()), " ") {
		c.add(rule.rule, "%s: the text was changed", path)
	}
	c.align(path, r, a, rule)
}

// attrs compares attributes other than namespace declarations.
func (c *checker) attrs(path string, r, a *xmltree.Element, rule *echoRule) {
	want, got := attrValues(c.request.tree, r), attrValues(c.tree, a)
	report := func(name, format string, args ...any) {
		broken := rule.attrRules[name]
		if broken == "" {
			broken = rule.rule
		}
		c.add(broken, format, args...)
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		v, ok := got[name]
		switch {
		case name == rule.free || c.v2 && strings.HasPrefix(name, "{"+cpix.NamespaceSPEKE+"}"):
		case !ok && !slices.Contains(rule.mayLose, name):
			report(name, "%s: %s is gone", path, name)
		case ok && v != want[name] && (want[name] != "" || !slices.Contains(rule.mayGain, name)):
			report(name, "%s: %s is %s, want %s", path, name, quote(v), quote(want[name]))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[name]; !ok && name != rule.free && !slices.Contains(rule.mayGain, name) {
			report(name, "%s: %s was added", path, name)
		}
	}
}

// attrValues returns the attributes of an element by their names.
func attrValues(tree *xmltree.Doc, e *xmltree.Element) map[string]string {
	attrs, spaces := e.Attrs(), tree.Spaces()
	out := make(map[string]string, len(attrs))
	for i := range attrs {
		if _, declares := attrs[i].Declares(); declares {
			continue
		}
		name := attrs[i].Local()
		if space := spaces[attrs[i].SpaceIndex()]; space != "" {
			name = "{" + space + "}" + name
		}
		out[name] = strings.TrimSpace(attrs[i].Value())
	}
	return out
}

// elementName tells children of one parent apart; the two HLSSignalingData of
// a DRMSystem are different things.
func elementName(e *xmltree.Element) string {
	name := "{" + e.Space() + "}" + e.Local()
	if e.Local() == "HLSSignalingData" {
		if a := e.Attr("playlist"); a != nil {
			return name + " " + strings.TrimSpace(a.Value())
		}
	}
	return name
}

// align goes through the children of a pair of elements in step, reports what
// is missing, added or moved, and compares the rest pair by pair.
func (c *checker) align(path string, r, a *xmltree.Element, rule *echoRule) {
	want, got := make(map[string]int), make(map[string]int)
	for e := range children(r) {
		want[elementName(e)]++
	}
	for e := range children(a) {
		got[elementName(e)]++
	}
	re, ae := r.FirstChild(), a.FirstChild()
	nextR := func() { want[elementName(re)]--; re = re.Next() }
	nextA := func() { got[elementName(ae)]--; ae = ae.Next() }
	for re != nil || ae != nil {
		switch {
		case c.isV1(re):
			nextR()
		case c.isV1(ae):
			nextA()
		case re != nil && ae != nil && elementName(re) == elementName(ae):
			rule.child(path+"/"+re.Local(), re, ae)
			nextR()
			nextA()
		case ae != nil && rule.mayAdd != nil && want[elementName(ae)] == 0 && rule.mayAdd(ae):
			nextA()
		case re != nil && rule.mayDrop != nil && got[elementName(re)] == 0 && rule.mayDrop(re):
			nextR()
		case re != nil && got[elementName(re)] == 0:
			c.add(rule.rule, "%s: %s is gone", path, re.Local())
			nextR()
		case ae != nil && want[elementName(ae)] == 0:
			broken := rule.added
			if broken == "" {
				broken = rule.rule
			}
			c.add(broken, "%s: %s was added", path, ae.Local())
			nextA()
		default:
			c.add(rule.rule, "%s: the children stand in another order", path)
			return
		}
	}
}
