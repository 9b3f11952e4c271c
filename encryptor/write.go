package encryptor

import (
	"encoding/base64"
	"strconv"
	"strings"

	"spekeasy/contentkey"
	"spekeasy/cpix"
	"spekeasy/internal/xmltree"
)

// observed reports whether documents have the form that MediaPackage v2 was
// seen to send with SPEKE 2.0: no PSKC declaration, attributes in alphabetical
// order, UUIDs alone as period IDs. All others have the form of AWS's
// documentation.
func (p *plan) observed() bool { return p.service == MediaPackageV2 && p.version == V20 }

// attr is one attribute to be written.
type attr struct{ name, value string }

// writer writes an indented document. Prefixes are declared on the root and
// lists stand in the order of the schema (CPIX-WR-01, -02).
type writer struct {
	strings.Builder
	depth int
}

func (w *writer) tag(name string, attrs []attr, end string) {
	w.WriteString(strings.Repeat("  ", w.depth))
	w.WriteByte('<')
	w.WriteString(name)
	for _, a := range attrs {
		w.WriteByte(' ')
		w.WriteString(a.name)
		w.WriteString(`="`)
		w.WriteString(xmltree.Escape(a.value))
		w.WriteByte('"')
	}
	w.WriteString(end)
}

// in writes an element around what body writes.
func (w *writer) in(name string, attrs []attr, body func()) {
	w.tag(name, attrs, ">\n")
	w.depth++
	body()
	w.depth--
	w.WriteString(strings.Repeat("  ", w.depth) + "</" + name + ">\n")
}

// text writes an element with text or, with none, one that is empty in two
// tags.
func (w *writer) text(name string, attrs []attr, text string) {
	w.tag(name, attrs, ">"+text+"</"+name+">\n")
}

// empty writes an empty element in one tag.
func (w *writer) empty(name string, attrs ...attr) { w.tag(name, attrs, "/>\n") }

// document writes the request's body.
func (p *plan) document() []byte {
	w := &writer{}
	w.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n")
	w.in("cpix:CPIX", p.rootAttrs(), func() {
		p.writeDeliveryData(w)
		w.in("cpix:ContentKeyList", nil, func() {
			for i := range p.keys {
				p.writeContentKey(w, &p.keys[i])
			}
		})
		w.in("cpix:DRMSystemList", nil, func() {
			for i := range p.systems {
				for j := range p.keys {
					p.writeSystem(w, &p.systems[i], &p.keys[j])
				}
			}
		})
		if len(p.periods) > 0 {
			w.in("cpix:ContentKeyPeriodList", nil, func() {
				for _, d := range p.periods {
					w.empty("cpix:ContentKeyPeriod", periodAttrs(d)...)
				}
			})
		}
		if len(p.periods) > 0 || p.version != V10 {
			w.in("cpix:ContentKeyUsageRuleList", nil, func() {
				for i := range p.keys {
					p.writeRule(w, &p.keys[i])
				}
			})
		}
	})
	return []byte(w.String())
}

func (p *plan) rootAttrs() []attr {
	var attrs []attr
	if p.version == V10 {
		attrs = append(attrs, attr{"id", p.contentID})
	} else {
		attrs = append(attrs, attr{"contentId", p.contentID}, attr{"version", p.version.cpix()})
	}
	attrs = append(attrs, attr{"xmlns:cpix", cpix.Namespace})
	if !p.observed() {
		attrs = append(attrs, attr{"xmlns:pskc", cpix.NamespacePSKC})
	}
	if p.version == V10 {
		attrs = append(attrs, attr{"xmlns:speke", cpix.NamespaceSPEKE})
	}
	if len(p.recipients) > 0 {
		attrs = append(attrs, attr{"xmlns:ds", cpix.NamespaceDS})
	}
	return attrs
}

func (p *plan) writeDeliveryData(w *writer) {
	if len(p.recipients) == 0 {
		return
	}
	w.in("cpix:DeliveryDataList", nil, func() {
		for i, r := range p.recipients {
			id := r.ID
			if id == "" {
				id = "recipient-" + strconv.Itoa(i+1)
			}
			w.in("cpix:DeliveryData", []attr{{"id", id}}, func() {
				w.in("cpix:DeliveryKey", nil, func() {
					w.in("ds:X509Data", nil, func() {
						w.text("ds:X509Certificate", nil, base64.StdEncoding.EncodeToString(r.Certificate.Raw))
					})
				})
			})
		}
	})
}

func (p *plan) writeContentKey(w *writer, k *plannedKey) {
	kid := attr{"kid", k.kid.String()}
	var scheme, iv []attr
	if p.version != V10 {
		scheme = []attr{{"commonEncryptionScheme", p.scheme}}
	}
	if k.hasIV {
		iv = []attr{{"explicitIV", k.iv.String()}}
	}
	switch {
	case p.version == V10:
		w.text("cpix:ContentKey", append([]attr{kid}, iv...), "")
	case p.observed():
		w.empty("cpix:ContentKey", append(append(scheme, iv...), kid)...)
	default:
		w.empty("cpix:ContentKey", append(append([]attr{kid}, scheme...), iv...)...)
	}
}

func (p *plan) writeSystem(w *writer, s *system, k *plannedKey) {
	// AWS's v1 samples write empty elements in two tags, MediaPackage in one.
	twoTags := p.version == V10 && p.service != MediaPackageV1 && p.service != MediaPackageV1VOD
	w.in("cpix:DRMSystem", []attr{{"kid", k.kid.String()}, {"systemId", s.idFor(p.version)}}, func() {
		for _, e := range s.placeholders(p.service, p.version, p.packaging) {
			name := "cpix:" + e.kind.String()
			if e.kind == cpix.KeyFormat || e.kind == cpix.KeyFormatVersions || e.kind == cpix.ProtectionHeader {
				name = "speke:" + e.kind.String()
			}
			switch {
			case e.playlist != "":
				w.empty(name, attr{"playlist", e.playlist})
			case twoTags:
				w.text(name, nil, "")
			default:
				w.empty(name)
			}
		}
	})
}

// periodAttrs spells a period's times as offsets when they are durations
// (S21-SEQ-20).
func periodAttrs(d contentkey.Period) []attr {
	attrs := []attr{{"id", d.ID}}
	if d.Index != "" {
		attrs = append(attrs, attr{"index", d.Index})
	}
	start, end := "start", "end"
	if strings.HasPrefix(d.Start, "P") {
		start, end = "startOffset", "endOffset"
	}
	if d.Start != "" {
		attrs = append(attrs, attr{start, d.Start})
	}
	if d.End != "" {
		attrs = append(attrs, attr{end, d.End})
	}
	return attrs
}

func (p *plan) writeRule(w *writer, k *plannedKey) {
	t := &p.tracks[k.track]
	attrs := []attr{{"kid", k.kid.String()}}
	switch {
	case p.version == V10:
	case p.observed():
		attrs = []attr{{"intendedTrackType", t.Label}, attrs[0]}
	default:
		attrs = append(attrs, attr{"intendedTrackType", t.Label})
	}
	w.in("cpix:ContentKeyUsageRule", attrs, func() {
		if k.period >= 0 {
			w.empty("cpix:KeyPeriodFilter", attr{"periodId", p.periods[k.period].ID})
		}
		for _, f := range t.Filters {
			name, low, high := "cpix:VideoFilter", "minPixels", "maxPixels"
			if f.Audio {
				name, low, high = "cpix:AudioFilter", "minChannels", "maxChannels"
			}
			var bounds []attr
			if f.Min > 0 {
				bounds = append(bounds, attr{low, strconv.Itoa(f.Min)})
			}
			if f.Max > 0 {
				bounds = append(bounds, attr{high, strconv.Itoa(f.Max)})
			}
			w.empty(name, bounds...)
		}
	})
}
