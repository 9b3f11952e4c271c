package encryptor_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"spekeasy/contentkey"
	"spekeasy/encryptor"
)

// The request of a MediaConvert job for DASH with one key for everything.
func ExampleOptions_Build() {
	options := encryptor.Options{ContentID: "movie", Systems: []string{"widevine"}}
	request, err := options.Build()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", request.Body)
	// Output:
	// <?xml version="1.0" encoding="UTF-8"?>
	// <cpix:CPIX id="movie" xmlns:cpix="urn:dashif:org:cpix" xmlns:pskc="urn:ietf:params:xml:ns:keyprov:pskc" xmlns:speke="urn:aws:amazon:com:speke">
	//   <cpix:ContentKeyList>
	//     <cpix:ContentKey kid="0d54c4e4-c29d-3fda-bb8f-8c902224abf9"></cpix:ContentKey>
	//   </cpix:ContentKeyList>
	//   <cpix:DRMSystemList>
	//     <cpix:DRMSystem kid="0d54c4e4-c29d-3fda-bb8f-8c902224abf9" systemId="edef8ba9-79d6-4ace-a3c8-27dcd51d21ed">
	//       <cpix:PSSH></cpix:PSSH>
	//     </cpix:DRMSystem>
	//   </cpix:DRMSystemList>
	// </cpix:CPIX>
}

// A live channel of MediaPackage v2 asks for keys of its 41st period.
func ExampleNewPeriod() {
	start := time.Date(2026, 1, 1, 20, 15, 0, 0, time.UTC)
	period, err := encryptor.NewPeriod(encryptor.IndexWithStartEnd, 41, start, start.Add(5*time.Minute))
	if err != nil {
		log.Fatal(err)
	}
	options := encryptor.Options{
		Service: encryptor.MediaPackageV2, Version: encryptor.V21, ContentID: "channel-1",
		VideoPreset: "PRESET_VIDEO_2", AudioPreset: "PRESET_AUDIO_1", Periods: []contentkey.Period{period},
	}
	request, err := options.Build()
	if err != nil {
		log.Fatal(err)
	}
	for _, key := range request.Keys {
		use := key.Uses[0]
		fmt.Println(key.KID, use.Track, use.Period.Index, use.Period.Start)
	}
	// Output:
	// 69562b45-cb48-36df-bb39-000f8d69b6e7 SD 41 2026-01-01T20:15:00Z
	// 86d6f794-6b74-3830-9376-f645ebd5b974 HD 41 2026-01-01T20:15:00Z
	// 80e149b5-9c8d-34c7-ba26-60a7e4828948 AUDIO 41 2026-01-01T20:15:00Z
}

// An exchange with a key provider whose answer is checked.
func ExampleClient_Do() {
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		w.Header().Set("X-Speke-Version", "2.0")
		answer, err := os.ReadFile("testdata/worked/v2-rotation.answer.xml")
		if err != nil {
			log.Fatal(err)
		}
		_, _ = w.Write(answer)
	}))
	defer provider.Close()

	body, err := os.ReadFile("testdata/worked/v2-rotation.request.xml")
	if err != nil {
		log.Fatal(err)
	}
	request, err := encryptor.ReadRequest(http.Header{"X-Speke-Version": {"2.0"}}, body)
	if err != nil {
		log.Fatal(err)
	}
	client := &encryptor.Client{URL: provider.URL + "/speke/v2.0/copyProtection", Auth: encryptor.Basic("dev", "dev")}
	answer, err := client.Do(context.Background(), request)
	if err != nil {
		log.Fatal(err)
	}
	for _, key := range answer.Keys {
		fmt.Println(key.KID, key.Uses[0].Track, key.Scheme, key.Value)
		for _, s := range key.Systems {
			fmt.Println(s.Name, s.Signaled())
		}
	}
	for _, violation := range answer.Check() {
		fmt.Println(violation)
	}
	// Output:
	// 6052faa8-56da-39ad-ab71-0b98f396954d ALL cenc (content key)
	// Widevine [PSSH DASH HLS media HLS master]
	// S2-HTTP-11: no X-Speke-User-Agent
}

// Content keys that are encrypted to a certificate made for the occasion.
func ExampleNewRecipient() {
	recipient, err := encryptor.NewRecipient(time.Now())
	if err != nil {
		log.Fatal(err)
	}
	options := encryptor.Options{ContentID: "movie", Recipients: []*encryptor.Recipient{recipient}}
	if _, err := options.Build(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(recipient.Certificate.SignatureAlgorithm, recipient)
	// Output: SHA512-RSA (recipient)
}
