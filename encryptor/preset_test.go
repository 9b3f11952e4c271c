package encryptor

import (
	"fmt"
	"strings"
	"testing"
)

// contract writes tracks as the table of presets in the specification does.
func contract(tracks []Track) string {
	var out []string
	for _, t := range tracks {
		var filters []string
		for _, f := range t.Filters {
			s := "video"
			if f.Audio {
				s = "audio"
			}
			if f.Min > 0 {
				s += fmt.Sprintf(" min %d", f.Min)
			}
			if f.Max > 0 {
				s += fmt.Sprintf(" max %d", f.Max)
			}
			filters = append(filters, s)
		}
		out = append(out, t.Label+" "+strings.Join(filters, " & "))
	}
	return strings.Join(out, "; ")
}

func TestTracksOfEveryPreset(t *testing.T) {
	const (
		a1 = "AUDIO audio"
		v1 = "VIDEO video"
	)
	for _, test := range []struct{ video, audio, want string }{
		{"PRESET-VIDEO-1", Unencrypted, v1},
		{"PRESET-VIDEO-2", Unencrypted, "SD video max 589824; HD video min 589825"},
		{"PRESET-VIDEO-3", Unencrypted, "SD video max 589824; HD video min 589825 max 2073600; UHD video min 2073601"},
		{"PRESET-VIDEO-4", Unencrypted, "SD video max 589824; HD video min 589825 max 2073600; UHD1 video min 2073601 max 8847360; UHD2 video min 8847361"},
		{"PRESET-VIDEO-5", Unencrypted, "SD video max 589824; HD1 video min 589825 max 921600; HD2 video min 921601 max 2073600; UHD1 video min 2073601 max 8847360; UHD2 video min 8847361"},
		{"PRESET-VIDEO-6", Unencrypted, "SD video max 589824; HD1 video min 589825 max 921600; HD2 video min 921601 max 2073600; UHD video min 2073601"},
		{"PRESET-VIDEO-7", Unencrypted, "SD+HD1 video max 921600; HD2 video min 921601 max 2073600; UHD video min 2073601"},
		{"PRESET-VIDEO-8", Unencrypted, "SD+HD1 video max 921600; HD2 video min 921601 max 2073600; UHD1 video min 2073601 max 8847360; UHD2 video min 8847361"},
		{Unencrypted, "PRESET-AUDIO-1", a1},
		{Unencrypted, "PRESET-AUDIO-2", "STEREO_AUDIO audio max 2; MULTICHANNEL_AUDIO audio min 3"},
		{Unencrypted, "PRESET-AUDIO-3", "STEREO_AUDIO audio max 2; MULTICHANNEL_AUDIO_3_6 audio min 3 max 6; MULTICHANNEL_AUDIO_7 audio min 7"},
		{Shared, Shared, "ALL video & audio"},
		{"PRESET-VIDEO-1", "PRESET-AUDIO-1", v1 + "; " + a1},
		{"PRESET_VIDEO_1", "preset_audio_1", v1 + "; " + a1},
		{"shared", "Shared", "ALL video & audio"},
	} {
		t.Run(test.video+"+"+test.audio, func(t *testing.T) {
			tracks, err := Tracks(test.video, test.audio)
			if err != nil {
				t.Fatal(err)
			}
			if got := contract(tracks); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestTracksDoNotShareMemory(t *testing.T) {
	first, err := Tracks("PRESET-VIDEO-2", "PRESET-AUDIO-2")
	if err != nil {
		t.Fatal(err)
	}
	first[0].Label = "changed"
	second, err := Tracks("PRESET-VIDEO-2", "PRESET-AUDIO-2")
	if err != nil || second[0].Label != "SD" {
		t.Errorf("label %q, %v", second[0].Label, err)
	}
}
