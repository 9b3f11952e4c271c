package tenant

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Packager is about packagers, which ask for the keys of a content by the
// type of a track and not by key ID.
type Packager struct {
	// Tracks says which values of intendedTrackType answer a packager's track
	// types, SD, HD, UHD1, UHD2 and AUDIO; the first one that the content has
	// a key for counts. Types that are not named keep what [DefaultTrackMap]
	// says. The packager's own type comes before all others; the empty text
	// stands for the keys of SPEKE v1, which knows no track types.
	Tracks map[string][]string `yaml:"tracks,omitempty" json:"tracks,omitzero"`
}

// TrackMap says which values of intendedTrackType answer a packager's track
// type, in the order of looking.
type TrackMap map[string][]string

// DefaultTrackMap follows the presets of AWS's encryptors: a track is answered
// by the rule whose range of pixels or channels holds it. HD stands for
// everything above SD where no rule names UHD (PRESET-VIDEO-2).
func DefaultTrackMap() TrackMap {
	return TrackMap{
		"SD":    {"VIDEO", "ALL", ""},
		"HD":    {"HD2", "HD1", "VIDEO", "ALL", ""},
		"UHD1":  {"UHD", "HD", "VIDEO", "ALL", ""},
		"UHD2":  {"UHD", "HD", "VIDEO", "ALL", ""},
		"AUDIO": {"STEREO_AUDIO", "ALL", ""},
	}
}

// Labels returns the values that answer a track type, the type itself first.
func (m TrackMap) Labels(track string) []string {
	return append([]string{track}, m[track]...)
}

// Matches reports whether the key of a usage rule with one label is meant when
// another is looked for: parts of a label are joined by "+" (S2-CON-03).
func (TrackMap) Matches(label, wanted string) bool {
	return label == wanted || wanted != "" && slices.Contains(strings.Split(label, "+"), wanted)
}

func (p *Packager) build() (TrackMap, error) {
	m := DefaultTrackMap()
	for _, track := range slices.Sorted(maps.Keys(p.Tracks)) {
		if _, ok := m[track]; !ok {
			return nil, fmt.Errorf("tracks: %q is none of SD, HD, UHD1, UHD2, AUDIO", track)
		}
		m[track] = p.Tracks[track]
	}
	return m, nil
}
