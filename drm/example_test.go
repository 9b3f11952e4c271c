package drm_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log"

	"spekeasy/contentkey"
	"spekeasy/drm"
)

func Example() {
	systems, err := drm.V2(drm.Settings{
		PlayReady: drm.PlayReady{LAURL: "https://lic.example.com/playready"},
	})
	if err != nil {
		log.Fatal(err)
	}
	kid, err := contentkey.ParseKID("5c9d7e3a-8b1f-3a2c-9d4e-6f7081920a3b")
	if err != nil {
		log.Fatal(err)
	}
	track := drm.Track{
		ContentID: "cmaf-channel-9",
		KID:       kid,
		Scheme:    contentkey.Cenc,
	}
	for _, s := range systems {
		out, err := s.Signal(&track, drm.PSSH|drm.HLS)
		if errors.Is(err, drm.ErrScheme) {
			fmt.Println(s.Name(), "does not play", track.Scheme)
			continue
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: a box of %d bytes, a tag of %d\n", s.Name(), len(out.PSSH), len(out.HLS))
	}
	// Output:
	// Widevine: a box of 72 bytes, a tag of 227
	// PlayReady: a box of 650 bytes, a tag of 948
	// FairPlay does not play cenc
	// HLS AES-128 does not play cenc
	// W3C common PSSH: a box of 52 bytes, a tag of 0
	// HLS SAMPLE-AES does not play cenc
	// Clear Key: a box of 0 bytes, a tag of 0
}

func ExampleFairPlay() {
	uri, err := drm.ParseTemplate("skd://{content_id}/{kid_hex}")
	if err != nil {
		log.Fatal(err)
	}
	fairPlay := drm.FairPlay{URI: uri}
	if err := fairPlay.Validate(); err != nil {
		log.Fatal(err)
	}
	out, err := fairPlay.Signal(&drm.Track{
		ContentID: `the "best" film`,
		KID:       contentkey.KID{0: 0x5c, 15: 0x3b},
		Scheme:    contentkey.Cbcs,
	}, drm.HLS)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("#EXT-X-KEY:%s\n", out.HLS)
	// Output:
	// #EXT-X-KEY:METHOD=SAMPLE-AES,URI="skd://the%20%22best%22%20film/5c00000000000000000000000000003b",KEYFORMAT="com.apple.streamingkeydelivery",KEYFORMATVERSIONS="1"
}

func ExampleParseBoxes() {
	initData, err := base64.StdEncoding.DecodeString(
		"AAAARHBzc2gBAAAAEHfv7MCyTQKs4zweUuL7SwAAAAIwMTIzNDU2Nzg5MDEyMzQ1QUJDREVGR0hJSktMTU5PUAAAAAA=")
	if err != nil {
		log.Fatal(err)
	}
	boxes, err := drm.ParseBoxes(initData)
	if err != nil {
		log.Fatal(err)
	}
	for _, box := range boxes {
		fmt.Println(drm.SystemName(box.SystemID), box.KIDs)
	}
	// Output:
	// W3C common PSSH [30313233-3435-3637-3839-303132333435 41424344-4546-4748-494a-4b4c4d4e4f50]
}

func ExampleParseWidevineData() {
	box, err := base64.StdEncoding.DecodeString(
		"AAAAP3Bzc2gAAAAA7e+LqXnWSs6jyCfc1R0h7QAAAB8SEAEjRWeJq83vASNFZ4mrze8aBWV6ZHJtSPPGiZsG")
	if err != nil {
		log.Fatal(err)
	}
	pssh, err := drm.ParseBox(box)
	if err != nil {
		log.Fatal(err)
	}
	data, err := drm.ParseWidevineData(pssh.Data)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s %x %v\n", data.Provider, data.KeyIDs[0], data.ProtectionScheme == contentkey.Cbcs.FourCC())
	// Output:
	// ezdrm 0123456789abcdef0123456789abcdef true
}

func ExamplePlayReadyHeader() {
	header := drm.PlayReadyHeader{
		Version: "4.3",
		Keys: []drm.PlayReadyKey{
			{KID: contentkey.KID{0x5c, 0x9d}, Algorithm: drm.PlayReadyCBC},
			{KID: contentkey.KID{0x6d, 0xae}, Algorithm: drm.PlayReadyCBC},
		},
	}
	text, err := header.XML()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(text)
	// Output:
	// <WRMHEADER xmlns="http://schemas.microsoft.com/DRM/2007/03/PlayReadyHeader" version="4.3.0.0"><DATA><PROTECTINFO><KIDS><KID ALGID="AESCBC" VALUE="AACdXAAAAAAAAAAAAAAAAA=="></KID><KID ALGID="AESCBC" VALUE="AACubQAAAAAAAAAAAAAAAA=="></KID></KIDS></PROTECTINFO></DATA></WRMHEADER>
}
