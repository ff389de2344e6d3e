package cluster

import (
	"context"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// connect uses a cluster that is there, and a bucket that its owner has made: the images
// are those that its nodes can pull.
func (c *Cluster) connect(ctx context.Context, options Options) (err error) {
	var kubeconfig string
	if err := fromEnvironment(map[string]*string{
		"KUBECONFIG": &kubeconfig, "E2E_WEBHOOK_IMAGE": &c.Images.Webhook, "E2E_READER_IMAGE": &c.Images.Reader, "E2E_APP_IMAGE": &c.Images.App,
	}); err != nil {
		return err
	}
	if c.Bucket, err = givenBucket(); err != nil {
		return err
	}
	c.Lab, err = lab.Connect(ctx, kubeconfig, lab.Options{LogDir: options.LogDir, Progress: options.Progress})
	if err == nil {
		c.atEnd(c.Lab.Stop)
	}
	return err
}
