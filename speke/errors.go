package speke

import (
	"net/http"
	"strings"

	"spekeasy/contentkey"
)

// Error is a refusal that the encryptor is told in the words of the
// specification. Text is the whole body of the answer (S2-ERR-04).
type Error struct {
	Status int
	Text   string
	Cause  error // for logs; never holds key material

	// What the request asked for, as far as it was read; for records.
	ContentID string
	KIDs      []contentkey.KID
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Text + ": " + e.Cause.Error()
	}
	return e.Text
}

func (e *Error) Unwrap() error { return e.Cause }

// invalid is the answer to every fault of a request: 422 (S2-ERR-03).
func invalid(text string, cause error) *Error {
	return &Error{Status: http.StatusUnprocessableEntity, Text: text, Cause: cause}
}

// The texts of the specification, word for word (S2-ERR-10 to -19).
const (
	textMissingContentID   = "Missing CPIX@contentId"
	textMissingCPIXVersion = "Missing CPIX@version"
	textCPIXVersion        = "Unsupported CPIX@version"
	textMissingScheme      = "Missing ContentKey@commonEncryptionScheme for KID " // + kid as received
	textMixedSchemes       = "Non compliant ContentKey@commonEncryptionScheme combination"
	textSchemeSystem       = "ContentKey@commonEncryptionScheme non compatible with DRMSystem " // + systemId as received
	textVersion            = "Unsupported SPEKE version"
	textMalformedContract  = "Malformed encryption contract"
	textContract           = "Requested CPIX encryption contract not supported"
	textMissingContract    = "Missing CPIX encryption contract"
)

// Texts for situations that the specification leaves open (S2-ERR-30 to -43).
const (
	textMalformed      = "Malformed CPIX document"
	textMissingElement = "Missing CPIX element " // + local name
	textMissing        = "Missing "              // + Element@attribute
	textInvalid        = "Invalid "              // + Element@attribute
	textSystem         = "Unsupported DRMSystem "
	textUnsupported    = "Unsupported " // + element + " for DRMSystem " + systemId
	textCertificate    = "Invalid DeliveryData certificate"
	textMissingID      = "Missing CPIX@id" // v1's content ID
	textLongContentID  = "Invalid CPIX@contentId"
	textLongID         = "Invalid CPIX@id"
)

// CertificateError is the answer to a request whose DeliveryData has a
// certificate that keys cannot be encrypted to (S2-ERR-38).
func CertificateError(cause error) *Error { return invalid(textCertificate, cause) }

// EncryptionError is the answer to a request for clear keys (SX-CKE-01) that
// the key provider's policy does not hand out.
func EncryptionError(cause error) *Error {
	return invalid(textMissingElement+"DeliveryDataList", cause)
}

// ContractError is the answer to a request whose encryption contract the key
// provider's policy does not allow (S2-ERR-18).
func ContractError(cause error) *Error { return invalid(textContract, cause) }

// IsSpecified reports whether a text is, to the letter, one that the
// specification has for errors (S2-ERR-10 to -19). A gateway passes such a text
// of its upstream on (SX-GW-01).
func IsSpecified(text string) bool {
	switch text {
	case textMissingContentID, textMissingCPIXVersion, textCPIXVersion, textMixedSchemes, textVersion,
		textMalformedContract, textContract, textMissingContract:
		return true
	}
	for _, prefix := range [...]string{textMissingScheme, textSchemeSystem} {
		if id, ok := strings.CutPrefix(text, prefix); ok {
			_, err := contentkey.ParseKID(id)
			return err == nil
		}
	}
	return false
}
