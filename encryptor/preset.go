package encryptor

import (
	"strings"
)

// Presets beside PRESET-VIDEO-1 to -8 and PRESET-AUDIO-1 to -3.
const (
	Shared      = "SHARED"      // one key for all video and audio; to be named for both
	Unencrypted = "UNENCRYPTED" // no key for that medium
)

// Track is one part of an encryption contract: the tracks that share a
// content key, under their label.
type Track struct {
	Label   string   // intendedTrackType
	Filters []Filter // what VideoFilter and AudioFilter elements select
}

// Filter selects tracks. Bounds are inclusive; 0 stands for none.
type Filter struct {
	Audio    bool // AudioFilter; VideoFilter otherwise
	Min, Max int  // pixels of video, channels of audio
}

// Bounds of the presets, in pixels.
const (
	sd   = 589_824   // 1024x576
	hd1  = 921_600   // 1280x720
	hd   = 2_073_600 // 1920x1080
	uhd1 = 8_847_360 // 4096x2160
)

func video(label string, low, high int) Track {
	return Track{Label: label, Filters: []Filter{{Min: low, Max: high}}}
}

func audio(label string, low, high int) Track {
	return Track{Label: label, Filters: []Filter{{Audio: true, Min: low, Max: high}}}
}

// presets are the tracks of each preset, in the order of the documents.
var presets = map[string][]Track{
	"PRESET-VIDEO-1": {video("VIDEO", 0, 0)},
	"PRESET-VIDEO-2": {video("SD", 0, sd), video("HD", sd+1, 0)},
	"PRESET-VIDEO-3": {video("SD", 0, sd), video("HD", sd+1, hd), video("UHD", hd+1, 0)},
	"PRESET-VIDEO-4": {video("SD", 0, sd), video("HD", sd+1, hd), video("UHD1", hd+1, uhd1), video("UHD2", uhd1+1, 0)},
	"PRESET-VIDEO-5": {video("SD", 0, sd), video("HD1", sd+1, hd1), video("HD2", hd1+1, hd), video("UHD1", hd+1, uhd1), video("UHD2", uhd1+1, 0)},
	"PRESET-VIDEO-6": {video("SD", 0, sd), video("HD1", sd+1, hd1), video("HD2", hd1+1, hd), video("UHD", hd+1, 0)},
	"PRESET-VIDEO-7": {video("SD+HD1", 0, hd1), video("HD2", hd1+1, hd), video("UHD", hd+1, 0)},
	"PRESET-VIDEO-8": {video("SD+HD1", 0, hd1), video("HD2", hd1+1, hd), video("UHD1", hd+1, uhd1), video("UHD2", uhd1+1, 0)},
	"PRESET-AUDIO-1": {audio("AUDIO", 0, 0)},
	"PRESET-AUDIO-2": {audio("STEREO_AUDIO", 0, 2), audio("MULTICHANNEL_AUDIO", 3, 0)},
	"PRESET-AUDIO-3": {audio("STEREO_AUDIO", 0, 2), audio("MULTICHANNEL_AUDIO_3_6", 3, 6), audio("MULTICHANNEL_AUDIO_7", 7, 0)},
}

// presetName returns the spelling of MediaPackage v1 for that of the other
// services: PRESET-VIDEO-1 for PRESET_VIDEO_1.
func presetName(s string) string { return strings.ReplaceAll(strings.ToUpper(s), "_", "-") }

// Tracks returns the encryption contract that two presets make, video before
// audio. Names may be written with hyphens, as in MediaPackage v1, or with
// underscores. The error is an [*OptionError].
func Tracks(videoPreset, audioPreset string) ([]Track, error) {
	v, a := presetName(videoPreset), presetName(audioPreset)
	for _, p := range [...]struct{ option, name, prefix string }{{"VideoPreset", v, "PRESET-VIDEO-"}, {"AudioPreset", a, "PRESET-AUDIO-"}} {
		if _, ok := presets[p.name]; p.name != Shared && p.name != Unencrypted && (!ok || !strings.HasPrefix(p.name, p.prefix)) {
			return nil, invalid(p.option, "%q is no preset: use %s and a number, %s or %s", p.name, p.prefix, Shared, Unencrypted)
		}
	}
	switch {
	case v == Shared && a == Shared:
		return []Track{{Label: "ALL", Filters: []Filter{{}, {Audio: true}}}}, nil
	case (v == Shared || a == Shared) && (v == Unencrypted || a == Unencrypted):
		return nil, invalid("VideoPreset, AudioPreset", "SHARED and UNENCRYPTED exclude each other")
	case v == Shared || a == Shared:
		return nil, invalid("VideoPreset, AudioPreset", "SHARED must be named for video and audio together")
	case v == Unencrypted && a == Unencrypted:
		return nil, invalid("VideoPreset, AudioPreset", "UNENCRYPTED for video and audio leaves nothing to encrypt")
	}
	return append(append([]Track(nil), presets[v]...), presets[a]...), nil
}
