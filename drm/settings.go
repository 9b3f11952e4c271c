package drm

import "fmt"

// Settings are what one customer may choose about signaling. The zero value
// is useful: the systems that need an address of their own, Clear Key and the
// plain HLS ones, then define no fields.
type Settings struct {
	Widevine  Widevine     `json:"widevine,omitzero" yaml:"widevine,omitempty"`
	PlayReady PlayReady    `json:"playready,omitzero" yaml:"playready,omitempty"`
	FairPlay  FairPlay     `json:"fairplay,omitzero" yaml:"fairplay,omitempty"`
	HLS       HLSAES128    `json:"hls,omitzero" yaml:"hls,omitempty"` // for the SAMPLE-AES and the v1 system too
	ClearKey  ClearKeyDASH `json:"clear_key,omitzero" yaml:"clear_key,omitempty"`
}

// Validate reports the first setting that cannot be used, by its full name in
// configuration files, such as playready.la_url.
func (s Settings) Validate() error {
	for _, part := range []struct {
		name     string
		validate func() error
	}{
		{"widevine", s.Widevine.Validate},
		{"playready", s.PlayReady.Validate},
		{"fairplay", s.FairPlay.Validate},
		{"hls", s.HLS.Validate},
		{"clear_key", s.ClearKey.Validate},
	} {
		if err := part.validate(); err != nil {
			return fmt.Errorf("%s.%w", part.name, err)
		}
	}
	return nil
}

// V1 returns the systems that a SPEKE v1 encryptor may name. FairPlay's key
// URI is skd://<kid> unless the settings say otherwise (S2-FP-04). The error
// is that of [Settings.Validate].
func V1(s Settings) ([]System, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	if s.FairPlay.URI.IsZero() {
		s.FairPlay.URI = Template{text: fairPlayKID}
	}
	playReady, err := s.PlayReady.prepared()
	if err != nil {
		return nil, err
	}
	return []System{s.Widevine, playReady, s.FairPlay, HLSAES128V1(s.HLS), CommonPSSH{}}, nil
}

// V2 returns the systems that a SPEKE v2.0 or v2.1 encryptor may name. The
// error is that of [Settings.Validate].
func V2(s Settings) ([]System, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	playReady, err := s.PlayReady.prepared()
	if err != nil {
		return nil, err
	}
	return []System{
		s.Widevine, playReady, s.FairPlay, s.HLS, CommonPSSH{}, HLSSampleAES(s.HLS), s.ClearKey,
	}, nil
}
