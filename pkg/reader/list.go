package reader

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/bucket-access/bucket-access-webhook/pkg/diagnosis"
)

// Listing is one page of a bucket.
type Listing struct {
	Bucket   string   `json:"bucket"`
	Prefix   string   `json:"prefix"`
	Objects  []Object `json:"objects"`
	Prefixes []string `json:"prefixes,omitempty"` // with a delimiter: what begins alike
	// NextContinuationToken asks for the next page; empty on the last.
	NextContinuationToken string `json:"nextContinuationToken,omitempty"`
}

// Object is one object of a listing.
type Object struct {
	Key          string    `json:"key"`
	Size         int64     `json:"size"` // bytes
	LastModified time.Time `json:"lastModified"`
	ETag         string    `json:"etag,omitempty"`
}

// maxListing is S3's own largest page.
const maxListing = 1000

// list serves GET /s3/?prefix=&delimiter=&max-keys=&continuation-token=.
func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	prefix := query.Get("prefix")
	if prefix == "" {
		prefix = s.config.Prefix
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.config.ProbeTimeout)
	defer cancel()
	maximum, err := strconv.ParseInt(query.Get("max-keys"), 10, 32)
	if err != nil || maximum < 1 || maximum > maxListing {
		maximum = maxListing
	}
	switch {
	case !s.config.inPrefix(prefix):
		s.refuse(w, r, diagnosis.Of(diagnosis.OutsidePrefix, s.facts(prefix), ""))
		return
	case prefix != "" && s.config.checkKey(prefix) != "":
		s.refuse(w, r, diagnosis.Of(diagnosis.InvalidKey, s.facts(""), "the prefix: "+s.config.checkKey(prefix)))
		return
	}
	// XML can't carry every key that S3 takes; escaped ones it can.
	input := &s3.ListObjectsV2Input{Bucket: &s.config.Bucket, Prefix: &prefix, MaxKeys: aws.Int32(int32(maximum)), EncodingType: types.EncodingTypeUrl}
	if text := query.Get("delimiter"); text != "" {
		input.Delimiter = &text
	}
	if text := query.Get("continuation-token"); text != "" {
		input.ContinuationToken = &text
	}
	answer, err := s.clients.s3.ListObjectsV2(ctx, input)
	if err != nil {
		s.failed(w, r, err, "")
		return
	}
	listing := Listing{Bucket: s.config.Bucket, Prefix: prefix, Objects: []Object{}, NextContinuationToken: aws.ToString(answer.NextContinuationToken)}
	for _, object := range answer.Contents {
		listing.Objects = append(listing.Objects, Object{
			Key: decoded(object.Key, answer.EncodingType), Size: aws.ToInt64(object.Size), LastModified: aws.ToTime(object.LastModified).UTC(),
			ETag: aws.ToString(object.ETag),
		})
	}
	for _, common := range answer.CommonPrefixes {
		listing.Prefixes = append(listing.Prefixes, decoded(common.Prefix, answer.EncodingType))
	}
	writeJSON(w, http.StatusOK, listing)
}

// decoded undoes the escapes of a key in a listing, in which + is a space. A server that
// does not escape says so, by not saying that it does.
func decoded(key *string, encoding types.EncodingType) string {
	text, err := url.PathUnescape(strings.ReplaceAll(aws.ToString(key), "+", "%20"))
	if err != nil || encoding != types.EncodingTypeUrl {
		return aws.ToString(key)
	}
	return text
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) //nolint:errchkjson // what can fail is the connection, and there is nobody to tell
}
