package drm

import "spekeasy/contentkey"

// Elsewhere is a system whose values another key provider makes, so that it
// defines more of them than we could: those of systems that nobody has told us
// an address for, and of systems that are not ours at all.
type Elsewhere struct {
	id       SystemID
	name     string
	fields   Fields
	supports func(contentkey.Scheme) bool
}

var _ System = Elsewhere{}

// ID returns the registered UUID.
func (e Elsewhere) ID() SystemID { return e.id }

// Name returns the readable name.
func (e Elsewhere) Name() string { return e.name }

// Supports reports what is known of the system; true for one that is not.
func (e Elsewhere) Supports(s contentkey.Scheme) bool { return e.supports == nil || e.supports(s) }

// Fields returns all values that the system has in anybody's hands.
func (e Elsewhere) Fields() Fields { return e.fields }

// Signal fails with [ErrTrack]: there is nothing that we could signal.
func (e Elsewhere) Signal(*Track, Fields) (Signaling, error) {
	return Signaling{}, trackError(e.name, "only its own key provider can signal it")
}

// AllElsewhere returns, for each of the systems, one that leaves all values to
// another key provider, and further systems that are known by name only.
func AllElsewhere(systems []System) []System {
	out := make([]System, 0, len(systems)+len(knownSystems))
	have := make(map[SystemID]bool)
	for _, s := range systems {
		have[s.ID()] = true
		e := Elsewhere{id: s.ID(), name: s.Name(), fields: s.Fields(), supports: s.Supports}
		switch s.(type) {
		case HLSAES128, HLSSampleAES:
			e.fields = HLS
		case HLSAES128V1:
			e.fields = KeyURI | KeyFormat | KeyFormatVersions
		case ClearKeyDASH:
			e.fields = PSSH | ContentProtection
		}
		out = append(out, e)
	}
	for i := range knownSystems {
		if k := &knownSystems[i]; !have[k.id] && k.id != hlsAES128ID && k.id != hlsAES128V1ID {
			out = append(out, Elsewhere{id: k.id, name: k.name, fields: PSSH | ContentProtection | HLS | Smooth | KeyURI | KeyFormat | KeyFormatVersions})
		}
	}
	return out
}
