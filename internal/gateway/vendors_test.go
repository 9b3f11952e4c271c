package gateway_test

import (
	"testing"

	"spekeasy/encryptor"
	"spekeasy/internal/upstream"
	"spekeasy/internal/vendorsim"
)

// TestVendors: each vendor, as it is, behind one endpoint, asked by each kind
// of encryptor. The encryptor finds nothing wrong with the answer, the keys
// are the vendor's, and each key ID is recorded.
func TestVendors(t *testing.T) {
	requests := map[string]encryptor.Options{
		"MediaConvert v1 DASH":      {Service: encryptor.MediaConvert, Version: encryptor.V10},
		"MediaPackage v1 HLS":       {Service: encryptor.MediaPackageV1, Version: encryptor.V10, Packaging: encryptor.HLS, Systems: []string{"fairplay"}},
		"MediaConvert v2 CMAF cenc": {Service: encryptor.MediaConvert, Version: encryptor.V20, Packaging: encryptor.CMAF, Systems: []string{"widevine", "playready"}, Scheme: "cenc"},
		"MediaPackage v2 CMAF cbcs": {Service: encryptor.MediaPackageV2, Version: encryptor.V20, Systems: []string{"widevine", "playready", "fairplay"}, Scheme: "cbcs"},
		"MediaPackage v2 2.1":       {Service: encryptor.MediaPackageV2, Version: encryptor.V21, Systems: []string{"widevine", "playready"}, Scheme: "cenc"},
	}
	for vendor, auths := range map[string][]vendorsim.Auth{
		vendorsim.Axinom:   {""},
		vendorsim.Insys:    {vendorsim.OAuth, vendorsim.APIKey, vendorsim.Basic},
		vendorsim.PallyCon: {""},
		vendorsim.KeyOS:    {""},
		vendorsim.Generic:  {""},
	} {
		for _, auth := range auths {
			for name, o := range requests {
				for _, speaks := range []string{"", "1.0", "2.0"} {
					switch {
					case vendor == vendorsim.KeyOS && speaks == "2.0":
						continue // its 2.0 has encrypted content keys only
					case vendor == vendorsim.PallyCon && speaks == "1.0" && o.Version != encryptor.V10:
						continue // without tracks it has one key for all, see TestOneKeyForAll
					}
					t.Run(vendor+" "+string(auth)+" "+speaks+"/"+name, func(t *testing.T) {
						b := newBench(t)
						s := startSim(t, vendor, vendorsim.Options{Auth: auth})
						tn := b.tenant(s.upstream(t, func(u *upstream.Settings) { u.SPEKE = speaks }))
						r := build(t, o)
						a := b.must(tn, r)
						for _, k := range a.read.Keys {
							want, _, err := s.keys.Make("vendorsim", k.KID)
							if err != nil {
								t.Fatal(err)
							}
							if !k.HasValue || vendor != vendorsim.PallyCon && k.Value != want {
								t.Errorf("key ID %s has another key than the vendor's", k.KID)
							}
							if vendor != vendorsim.PallyCon && k.KID != k.Requested {
								t.Errorf("key ID %s for %s", k.KID, k.Requested)
							}
							if got, ok := b.bound("movie-1")[k.KID]; !ok || got.Requested != k.Requested {
								t.Errorf("key ID %s is not recorded", k.KID)
							}
						}
						again := b.must(tn, build(t, o))
						if string(again.Body) != string(a.Body) {
							t.Error("the same request had another answer")
						}
					})
				}
			}
		}
	}
}

// TestOneKeyForAll: a vendor that tells keys apart by track cannot be asked in
// v1, which has none, for several. That is an error and not one key twice
// (SX-KID-05).
func TestOneKeyForAll(t *testing.T) {
	b := newBench(t)
	s := startSim(t, vendorsim.PallyCon, vendorsim.Options{})
	tn := b.tenant(s.upstream(t, func(u *upstream.Settings) { u.SPEKE = "1.0" }))
	_, err := b.ask(tn, build(t, encryptor.Options{Service: encryptor.MediaPackageV2, Version: encryptor.V20}))
	if err == nil || len(b.bound("movie-1")) != 0 {
		t.Fatalf("error %v, recorded %v", err, b.bound("movie-1"))
	}
	contains(t, err.Error(), "two content keys of the request", "REQ-1")
}
