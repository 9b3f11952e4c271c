package tenant

import (
	"cmp"
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

	// CPIXLabels are the track types in CPIX documents that name the content
	// by its ID; packager by default (D-531).
	CPIXLabels Labels `yaml:"cpix_labels,omitempty" json:"cpix_labels,omitzero"`
}

// Labels is a set of names for track types.
type Labels string

// The sets.
const (
	LabelsPackager Labels = "packager" // SD, HD, UHD1, UHD2, AUDIO
	LabelsSPEKE    Labels = "speke"    // as encryptors asked: VIDEO, STEREO_AUDIO, ...
)

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
		"ALL":   {""},
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

func (p *Packager) build(t *Tenant) error {
	t.CPIXLabels = cmp.Or(p.CPIXLabels, LabelsPackager)
	if t.CPIXLabels != LabelsPackager && t.CPIXLabels != LabelsSPEKE {
		return fmt.Errorf("cpix_labels: %q is neither %s nor %s", t.CPIXLabels, LabelsPackager, LabelsSPEKE)
	}
	t.TrackMap = DefaultTrackMap()
	for _, track := range slices.Sorted(maps.Keys(p.Tracks)) {
		if _, ok := t.TrackMap[track]; !ok || track == "ALL" {
			return fmt.Errorf("tracks: %q is none of SD, HD, UHD1, UHD2, AUDIO", track)
		}
		t.TrackMap[track] = p.Tracks[track]
	}
	return nil
}
