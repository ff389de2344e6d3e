package reader

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/bucket-access/bucket-access-webhook/pkg/diagnosis"
)

// Diagnose turns an error of the AWS SDK into a diagnosis. An answer that AWS gave is
// judged by its own words; without one, by how the network failed.
func Diagnose(err error, f diagnosis.Facts) diagnosis.Diagnosis {
	if foreign, ok := asForeign(err); ok {
		return diagnosis.Of(foreign.cause(), f, foreign.Error())
	}
	if answer, ok := answerOf(err); ok {
		return diagnosis.FromAnswer(answer, f)
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		return diagnoseFile(path, f)
	}
	return diagnoseNetwork(err, f)
}

// answerOf takes AWS's answer out of an error. The innermost operation is the one that
// failed: an S3 request that finds no credentials fails in STS.
func answerOf(err error) (diagnosis.Answer, bool) {
	answer := diagnosis.Answer{}
	for unwrapped := err; ; {
		var operation *smithy.OperationError
		if !errors.As(unwrapped, &operation) {
			break
		}
		answer.Service, answer.Operation = operation.Service(), operation.Operation()
		unwrapped = operation.Unwrap()
	}
	var response *smithyhttp.ResponseError
	if !errors.As(err, &response) || response.HTTPResponse() == nil {
		return answer, false
	}
	if answer.Status = response.HTTPStatusCode(); answer.Status == 0 {
		return answer, false // the SDK's stand-in where nothing was answered
	}
	header := response.HTTPResponse().Header
	answer.Region = header.Get("X-Amz-Bucket-Region")
	answer.RequestID = header.Get("X-Amz-Request-Id")
	if id := header.Get("X-Amzn-Requestid"); id != "" {
		answer.RequestID = id
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		answer.Code, answer.Message = api.ErrorCode(), api.ErrorMessage()
	}
	if answer.Code == "UnknownError" || answer.Code == http.StatusText(answer.Status) || strings.HasPrefix(answer.Operation, "Head") {
		answer.Code, answer.Message = "", "" // the SDK's stand-ins where there was no body
	}
	return answer, true
}

func diagnoseFile(err *fs.PathError, f diagnosis.Facts) diagnosis.Diagnosis {
	detail := err.Path + ": " + err.Err.Error()
	if errors.Is(err, fs.ErrNotExist) {
		return diagnosis.Of(diagnosis.TokenFileMissing, f, detail)
	}
	return diagnosis.Of(diagnosis.TokenFileUnreadable, f, detail)
}

// diagnoseNetwork names how a service could not be reached.
func diagnoseNetwork(err error, f diagnosis.Facts) diagnosis.Diagnosis {
	answer, _ := answerOf(err)
	service := answer.Service
	if service == "" {
		service = "AWS"
	}
	var (
		dns      *net.DNSError
		network  net.Error
		verify   *tls.CertificateVerificationError
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		quota    ratelimit.QuotaExceededError
	)
	switch {
	case errors.As(err, &verify), errors.As(err, &unknown), errors.As(err, &hostname):
		return diagnosis.Of(diagnosis.UntrustedCertificate, f, service+": "+innermost(err))
	case errors.As(err, &dns):
		return diagnosis.Of(diagnosis.Unreachable, f, fmt.Sprintf("%s: the name %s can't be resolved: %s", service, dns.Name, dns.Err))
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return diagnosis.Of(diagnosis.TimedOut, f, service+": "+innermost(err))
	case errors.As(err, &network), strings.Contains(err.Error(), "connection re"):
		return diagnosis.Of(diagnosis.Unreachable, f, service+": "+innermost(err))
	case errors.As(err, &quota):
		return diagnosis.Of(diagnosis.Unreachable, f, service+": the SDK has stopped repeating requests that fail")
	}
	return diagnosis.Of(diagnosis.Unexpected, f, service+": "+innermost(err))
}

// innermost is the last sentence of a chain of errors: the others only say who asked.
func innermost(err error) string {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			break
		}
		err = next
	}
	const longest = 300
	text := strings.ToValidUTF8(err.Error(), "")
	return text[:min(len(text), longest)]
}
