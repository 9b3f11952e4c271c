package drm_test

import (
	"testing"

	"spekeasy/contentkey"
	"spekeasy/drm"
)

func BenchmarkSignal(b *testing.B) {
	const all = drm.PSSH | drm.ContentProtection | drm.HLS | drm.Smooth |
		drm.KeyURI | drm.KeyFormat | drm.KeyFormatVersions
	const keys = "https://keys.example.com"
	playReady := prepared(b, drm.PlayReady{LAURL: "https://lic.example.com/playready"})

	for _, c := range []struct {
		name   string
		system drm.System
		scheme contentkey.Scheme
		want   drm.Fields
	}{
		{"Widevine/all", drm.Widevine{}, contentkey.Cenc, all},
		{"Widevine/pssh", drm.Widevine{}, contentkey.Cenc, drm.PSSH},
		{"PlayReady/cenc/all", playReady, contentkey.Cenc, all},
		{"PlayReady/cenc/dash", playReady, contentkey.Cenc, drm.PSSH | drm.ContentProtection},
		{"PlayReady/cbcs/all", playReady, contentkey.Cbcs, all},
		{"FairPlay/all", drm.FairPlay{}, contentkey.Cbcs, all},
		{"FairPlay/hls", drm.FairPlay{}, contentkey.Cbcs, drm.HLS},
		{"CommonPSSH/all", drm.CommonPSSH{}, contentkey.Cenc, all},
		{"ClearKeyDASH/all", drm.ClearKeyDASH{LicenseURL: keys}, contentkey.Cenc, all},
		{"HLSAES128/all", drm.HLSAES128{URL: keys}, contentkey.Cbc1, all},
		{"HLSAES128V1/all", drm.HLSAES128V1{URL: keys}, 0, all},
		{"HLSSampleAES/all", drm.HLSSampleAES{URL: keys}, contentkey.Cbcs, all},
	} {
		b.Run(c.name, func(b *testing.B) {
			t := drm.Track{
				ContentID: "cmaf-channel-9",
				KID:       contentkey.KID{0x5c, 0x9d, 0x7e, 0x3a, 0x8b, 0x1f},
				Key:       contentkey.Value{1, 2, 3},
				IV:        contentkey.IV{4, 5, 6},
				Scheme:    c.scheme,
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.system.Signal(&t, c.want); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// prepared returns PlayReady as a customer's set of systems has it.
func prepared(tb testing.TB, p drm.PlayReady) drm.System {
	tb.Helper()
	systems, err := drm.V2(drm.Settings{PlayReady: p})
	if err != nil {
		tb.Fatal(err)
	}
	for _, s := range systems {
		if s.ID() == p.ID() {
			return s
		}
	}
	tb.Fatal("no PlayReady")
	return nil
}
