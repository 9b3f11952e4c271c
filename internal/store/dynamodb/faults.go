package dynamodb

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"spekeasy/internal/keystore"
)

// errBusy reports what DynamoDB would not do even after several attempts.
var errBusy = fmt.Errorf("%w: DynamoDB does not keep up", keystore.ErrUnavailable)

// refusal is an error of our own that repeating the call does not help.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

func refuse(format string, args ...any) error { return refusal{fmt.Errorf(format, args...)} }

// lasting are the codes of errors that repeating the call does not help.
var lasting = []string{
	"ValidationException", "SerializationException", "ResourceNotFoundException",
	"ItemCollectionSizeLimitExceededException", "ConditionalCheckFailedException", "TransactionCanceledException",
	"UnknownOperationException", "IdempotentParameterMismatchException",
}

// sorted gives an error of the SDK its place among the errors of a
// [keystore.Store]. What is not known to last counts as an outage: refused
// credentials can be renewed, everything else is the network.
func sorted(err error) error {
	if _, ok := errors.AsType[refusal](err); ok || errors.Is(err, keystore.ErrUnavailable) || errors.Is(err, keystore.ErrCorrupt) {
		return err
	}
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		if slices.Contains(lasting, e.ErrorCode()) {
			return errors.New(describe(err, e))
		}
		return fmt.Errorf("%w: %s", keystore.ErrUnavailable, describe(err, e))
	}
	if _, ok := errors.AsType[*smithy.SerializationError](err); ok {
		return err
	}
	return fmt.Errorf("%w: %w", keystore.ErrUnavailable, err)
}

// describe returns what the server said. Only the first line of its message
// is told: that of a wrong signature goes on with all headers of the request,
// session token included.
func describe(err error, e smithy.APIError) string {
	message, _, _ := strings.Cut(e.ErrorMessage(), "\n")
	text := e.ErrorCode() + ": " + message
	if o, ok := errors.AsType[*smithy.OperationError](err); ok {
		text = o.OperationName + ": " + text
	}
	if r, ok := errors.AsType[*awshttp.ResponseError](err); ok && r.ServiceRequestID() != "" {
		text += " (request " + r.ServiceRequestID() + ")"
	}
	return text
}

func hasCode(err error, code string) bool {
	e, ok := errors.AsType[smithy.APIError](err)
	return ok && e.ErrorCode() == code
}
