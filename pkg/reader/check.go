package reader

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// AskReady asks a reader whether access is proven and returns its one line. It is the
// exec probe: what kubectl describe shows when a Pod waits for its bucket.
func AskReady(ctx context.Context, address string) (line string, ready bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", http.NoBody)
	if err != nil {
		return "", false, fmt.Errorf("the address %q: %w", address, err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", false, fmt.Errorf("no reader answers on %s: %w", address, err)
	}
	defer answer.Body.Close()
	const longest = 4 << 10
	text, err := io.ReadAll(io.LimitReader(answer.Body, longest))
	return strings.Join(strings.Fields(string(text)), " "), answer.StatusCode == http.StatusOK, err
}
