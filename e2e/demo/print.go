package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

// printer writes for a person: in colour on a terminal, plainly elsewhere and where
// NO_COLOR is set (no-color.org).
type printer struct {
	w      io.Writer
	colour bool
	start  time.Time
}

func newPrinter(file *os.File) *printer {
	info, err := file.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	return &printer{w: file, colour: terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb", start: time.Now()}
}

const (
	bold  = "1"
	dim   = "2"
	red   = "31"
	green = "32"
	cyan  = "36"
)

func (p *printer) paint(code, text string) string {
	if !p.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p *printer) say(format string, args ...any) { fmt.Fprintf(p.w, format, args...) }

func (p *printer) progress(format string, args ...any) {
	p.say("%s %s\n", p.paint(dim, fmt.Sprintf("[%4.1f s]", time.Since(p.start).Seconds())), fmt.Sprintf(format, args...))
}

func (p *printer) chapter(title string) { p.say("\n%s\n", p.paint(bold, "== "+title)) }
func (p *printer) heading(title string) { p.say("\n%s\n", p.paint(bold, title)) }
func (p *printer) command(text string)  { p.say("%s\n", p.paint(cyan, "$ "+text)) }

func (p *printer) document(text string) {
	for line := range strings.Lines(text) {
		p.say("  %s\n", p.paint(dim, strings.TrimSuffix(line, "\n")))
	}
}

func (p *printer) refusal(text string) {
	for line := range strings.Lines(text) {
		p.say("  %s\n", p.paint(red, strings.TrimSuffix(line, "\n")))
	}
}

func (p *printer) summary(done []string, where string) {
	p.chapter("Summary")
	for _, claim := range done {
		p.say("  %s %s\n", p.paint(green, "ok"), claim)
	}
	p.say("%d shown on %s in %.0f s.\n\n", len(done), where, time.Since(p.start).Seconds())
}

// difference shows the lines that were added and removed among those that stayed.
func (p *printer) difference(before, after string) {
	a, b := strings.Split(strings.TrimSpace(before), "\n"), strings.Split(strings.TrimSpace(after), "\n")
	// common[i][j] is the length of the longest common subsequence of a[i:] and b[j:].
	common := make([][]int, len(a)+1)
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			p.say("    %s\n", a[i])
			i, j = i+1, j+1
		case j < len(b) && (i == len(a) || common[i][j+1] >= common[i+1][j]):
			p.say("  %s\n", p.paint(green, "+ "+b[j]))
			j++
		default:
			p.say("  %s\n", p.paint(red, "- "+a[i]))
			i++
		}
	}
}

// essence is an object as YAML without what the API server adds to every object.
func essence(document []byte) (string, error) {
	var object map[string]any
	if err := yaml.Unmarshal(document, &object); err != nil {
		return "", err
	}
	result := map[string]any{"kind": object["kind"]}
	if metadata, ok := object["metadata"].(map[string]any); ok {
		kept := map[string]any{}
		for _, key := range []string{"name", "namespace", "labels", "annotations"} {
			if value, there := metadata[key]; there {
				kept[key] = value
			}
		}
		if annotations, ok := kept["annotations"].(map[string]any); ok {
			delete(annotations, "kubectl.kubernetes.io/last-applied-configuration")
		}
		result["metadata"] = kept
	}
	if spec, ok := object["spec"].(map[string]any); ok {
		result["spec"] = essenceOfSpec(spec)
	}
	text, err := yaml.Marshal(result)
	return string(text), err
}

func essenceOfSpec(spec map[string]any) map[string]any {
	kept := map[string]any{}
	for _, key := range []string{"serviceAccountName", "volumes", "containers"} {
		if list, ok := spec[key].([]any); ok {
			if list = ours(list); len(list) > 0 {
				kept[key] = list
			}
		} else if value, there := spec[key]; there {
			kept[key] = value
		}
	}
	containers, _ := kept["containers"].([]any)
	for i, container := range containers {
		c, _ := container.(map[string]any)
		small := map[string]any{"name": c["name"], "image": c["image"]}
		for _, key := range []string{"env", "volumeMounts"} {
			if list, ok := c[key].([]any); ok && len(ours(list)) > 0 {
				small[key] = ours(list)
			}
		}
		containers[i] = small
	}
	return kept
}

// ours leaves out the volume of the API server's own token.
func ours(list []any) []any {
	var kept []any
	for _, item := range list {
		entry, _ := item.(map[string]any)
		name, _ := entry["name"].(string)
		if !strings.HasPrefix(name, "kube-api-access") {
			kept = append(kept, item)
		}
	}
	return kept
}
