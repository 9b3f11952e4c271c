package drm_test

import (
	"bytes"
	"slices"
	"testing"

	"spekeasy/contentkey"
	"spekeasy/drm"
)

// Signaling in a room is that of memory of its own, and stays so until the
// room's reset, however much there is; then it is gone.
func TestRoom(t *testing.T) {
	var room drm.Room
	v1, v2 := systems(t, complete)
	for range 3 {
		var got, want []drm.Signaling
		for n := range byte(5) {
			for _, s := range slices.Concat(v1, v2) {
				for scheme := contentkey.Cenc; scheme <= contentkey.Cbcs; scheme++ {
					if !s.Supports(scheme) {
						continue
					}
					track := vectorTrack(scheme)
					track.KID[0], track.ContentID, track.IV = n, "cmaf-channel-9", contentkey.IV{n}
					want = append(want, signal(t, s, track, allFields))
					track.Room = &room
					got = append(got, signal(t, s, track, allFields))
				}
			}
		}
		for i := range want {
			for _, f := range fieldList {
				if !bytes.Equal(*f.get(&got[i]), *f.get(&want[i])) {
					t.Errorf("%d: %s %q, want %q", i, f.name, *f.get(&got[i]), *f.get(&want[i]))
				}
			}
		}
		room.Reset()
		last := got[len(got)-1].ContentProtection
		if len(last) == 0 || !bytes.Equal(last, make([]byte, len(last))) {
			t.Errorf("%q is left after a reset", last)
		}
	}
}
