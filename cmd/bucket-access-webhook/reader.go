package main

import (
	"encoding/json"
	"flag"
	"fmt"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
)

func (o *readerOptions) bind(f *flag.FlagSet) {
	f.StringVar(&o.image, "reader-image", "", "image of the demo reader's sidecar; empty adds none, whatever a policy or an annotation asks for")
	f.StringVar(&o.cpuRequest, "reader-cpu-request", "10m", "CPU that the sidecar requests; it has no limit")
	f.StringVar(&o.memoryRequest, "reader-memory-request", "32Mi", "memory that the sidecar requests")
	f.StringVar(&o.memoryLimit, "reader-memory-limit", "64Mi", "limit of the sidecar's memory")
}

// settings are the flags as the injection wants them; the faults name each wrong flag.
func (o *readerOptions) settings() (inject.ReaderSettings, []string) {
	var faults []string
	quantity := func(name, text string) resource.Quantity {
		q, err := resource.ParseQuantity(text)
		if err != nil || q.Sign() <= 0 {
			faults = append(faults, fmt.Sprintf("--%s is %q; it must be a positive quantity like 10m or 64Mi", name, text))
		}
		return q
	}
	cpu, memory := quantity("reader-cpu-request", o.cpuRequest), quantity("reader-memory-request", o.memoryRequest)
	limit := quantity("reader-memory-limit", o.memoryLimit)
	if len(faults) == 0 && memory.Cmp(limit) > 0 {
		faults = append(faults, fmt.Sprintf("--reader-memory-request (%s) must not be more than --reader-memory-limit (%s)", o.memoryRequest, o.memoryLimit))
	}
	resources, err := json.Marshal(map[string]map[string]resource.Quantity{
		"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": limit},
	})
	if err != nil {
		faults = append(faults, err.Error())
	}
	return inject.ReaderSettings{Image: o.image, Resources: resources, MemoryLimit: limit.Value()}, faults
}
