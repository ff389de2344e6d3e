package main

import (
	"context"
	"errors"
	"runtime/debug"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/metadata"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/bucket-access/bucket-access-webhook/pkg/watch"
)

// follow keeps the indexes that answers are made from in step with the cluster, on every replica.
func follow(mgr ctrl.Manager, accounts *watch.AccountIndex, namespaces *watch.NamespaceIndex, log logr.Logger) error {
	client, err := metadata.NewForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return err
	}
	return errors.Join(
		mgr.Add(watch.ReflectAccounts(client, accounts, log)),
		mgr.Add(watch.ReflectNamespaces(client, namespaces, log)))
}

// followPods returns what keeps the index of Pods in step until its context ends. That is for the
// leader alone, which counts them: an API server tells each watcher of each Pod, labelled or not.
// Nothing waits for it, and the API server's time is for the other indexes first.
func followPods(mgr ctrl.Manager, ready func() error, pods *watch.PodIndex, log logr.Logger) (func(context.Context), error) {
	client, err := metadata.NewForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return nil, err
	}
	calm, err := metadata.NewForConfig(watch.Calm(mgr.GetConfig()))
	if err != nil {
		return nil, err
	}
	reflected := func(ctx context.Context) { _ = watch.ReflectPods(client, calm, pods, log).Start(ctx) } // ends with ctx, and has no error
	return whileLeading(ready, pods, reflected, debug.FreeOSMemory), nil
}

// whileLeading calls follow from when everything else is ready until its context ends, and forgets
// the Pods then. Once they are listed, giveBack returns to the system what that took: it is by far
// the largest list, and a heap that may have garbage for half of what lives would keep it (70 MiB
// of 50,000 Pods).
func whileLeading(ready func() error, pods *watch.PodIndex, follow func(context.Context), giveBack func()) func(context.Context) {
	one := make(chan struct{}, 1) // whoever is elected again at once waits for the end of the time before
	return func(ctx context.Context) {
		select {
		case one <- struct{}{}:
			defer func() { <-one }()
		case <-ctx.Done():
			return
		}
		if !comes(ctx, func() bool { return ready() == nil }) {
			return // it leads no more
		}
		defer pods.Forget()
		go func() {
			if comes(ctx, pods.Synced) {
				giveBack()
			}
		}()
		follow(ctx)
	}
}

// comes waits until something is so, and says whether it is before ctx ends.
func comes(ctx context.Context, condition func() bool) bool {
	const often = 100 * time.Millisecond
	err := wait.PollUntilContextCancel(ctx, often, true, func(context.Context) (bool, error) { return condition(), nil })
	return err == nil && ctx.Err() == nil
}
