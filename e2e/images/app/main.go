// Command app is an application of the tests: it reads objects of BUCKET_NAME by the AWS
// SDK's default chain and knows nothing of how it comes to its credentials.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Line is what one reading ends in.
type Line struct {
	Key   string    `json:"key"`
	Body  string    `json:"body,omitempty"`
	Error string    `json:"error,omitempty"`
	At    time.Time `json:"at"`
}

func main() {
	every := flag.Duration("every", 0, "read again after this time, by a configuration loaded anew, until SIGTERM; 0 is once")
	hold := flag.Bool("hold", false, "after reading, wait for SIGTERM")
	retry := flag.Duration("retry", 0, "go on asking for this long while reading fails")
	kill := flag.String("kill", "", "instead of reading: send SIGKILL to the processes of the Pod with this UID")
	killName := flag.String("kill-name", "", "with -kill: the processes' name, as in /proc/PID/comm")
	flag.Parse()
	if *kill != "" {
		if err := killPod(*kill, *killName); err != nil {
			fmt.Fprintln(os.Stderr, "app:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx, flag.Args(), *every, *retry)
	if *hold && err == nil {
		<-ctx.Done()
	}
	stop()
	if err != nil {
		os.Exit(1)
	}
}

func run(ctx context.Context, keys []string, every, retry time.Duration) error {
	for {
		var errs []error
		for _, key := range keys {
			errs = append(errs, report(ctx, key, time.Now().Add(retry)))
		}
		if every == 0 {
			return errors.Join(errs...)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(every):
		}
	}
}

// report reads one object and prints how it went.
func report(ctx context.Context, key string, deadline time.Time) error {
	body, err := read(ctx, key)
	for err != nil && ctx.Err() == nil && time.Now().Before(deadline) {
		time.Sleep(time.Second)
		body, err = read(ctx, key)
	}
	line := Line{Key: key, Body: body, At: time.Now().UTC()}
	if err != nil {
		line.Error = err.Error()
	}
	return errors.Join(err, json.NewEncoder(os.Stdout).Encode(line))
}

// read loads the SDK's configuration, as a program does at its start, and gets one object.
func read(ctx context.Context, key string) (string, error) {
	bucket := os.Getenv("BUCKET_NAME")
	if bucket == "" {
		return "", errors.New("BUCKET_NAME is not set")
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	loaded, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return "", fmt.Errorf("loading the SDK's configuration: %w", err)
	}
	answer, err := s3.NewFromConfig(loaded).GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	return string(body), err
}
