package main

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

type instruction struct{ name, rest string }

// stages are the Dockerfile's instructions by the name of their stage, with continued
// lines joined. That is all that this Dockerfile uses of the syntax.
func stages(t *testing.T) map[string][]instruction {
	t.Helper()
	content, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	joined := strings.ReplaceAll(regexp.MustCompile(`(?m)^#.*\n`).ReplaceAllString(string(content), ""), "\\\n", " ")
	found, stage := map[string][]instruction{}, ""
	for line := range strings.Lines(joined) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, rest, _ := strings.Cut(line, " ")
		if name == "FROM" {
			fields := strings.Fields(rest)
			stage = fields[len(fields)-1]
		}
		found[stage] = append(found[stage], instruction{name, strings.TrimSpace(rest)})
	}
	return found
}

func named(instructions []instruction, name string) []string {
	var found []string
	for _, i := range instructions {
		if i.name == name {
			found = append(found, i.rest)
		}
	}
	return found
}

func TestTheDockerfileMakesTheSameImages(t *testing.T) {
	label := regexp.MustCompile(`([a-z.]+)="([^"]*)"`)
	created := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	all := stages(t)
	for _, s := range specs {
		stage := all[s.target()]
		if from := named(stage, "FROM"); !slices.Equal(from, []string{"scratch AS " + s.target()}) {
			t.Fatalf("the stage %s is from %q", s.target(), from)
		}
		args := strings.NewReplacer("$VERSION", "1.2.3", "$REVISION", "abc", "$CREATED", created.Format(time.RFC3339))
		got := map[string]string{}
		for _, match := range label.FindAllStringSubmatch(strings.Join(named(stage, "LABEL"), " "), -1) {
			got[match[1]] = args.Replace(match[2])
		}
		if want := (&release{version: "1.2.3", revision: "abc", created: created}).labels(&s); !maps.Equal(got, want) {
			t.Errorf("%s: the labels are %v, want %v", s.name, got, want)
		}
		if got := named(stage, "USER"); !slices.Equal(got, []string{user}) {
			t.Errorf("%s: USER is %q", s.name, got)
		}
		if got := named(stage, "ENTRYPOINT"); !slices.Equal(got, []string{`["` + s.binary() + `"]`}) {
			t.Errorf("%s: ENTRYPOINT is %q", s.name, got)
		}
		if got := strings.Fields(strings.Join(named(stage, "EXPOSE"), " ")); !slices.Equal(got, s.ports) {
			t.Errorf("%s: EXPOSE is %q, want %q", s.name, got, s.ports)
		}
		want := []string{"--from=build /out/" + s.name + " " + s.binary()}
		if s.certificates {
			want = append(want, "--from=certificates /ca-certificates.crt "+certificatesPath)
		}
		if got := named(stage, "COPY"); !slices.Equal(got, want) {
			t.Errorf("%s: COPY is %q, want %q", s.name, got, want)
		}
		for _, i := range stage {
			if !slices.Contains([]string{"FROM", "ARG", "LABEL", "COPY", "USER", "EXPOSE", "ENTRYPOINT"}, i.name) {
				t.Errorf("%s: the stage has a %s, which hack/images does not know", s.name, i.name)
			}
		}
	}
}

func TestTheDockerfileAndTheMakefileBuildWithTheSameFlags(t *testing.T) {
	run := strings.Join(named(stages(t)["build"], "RUN"), "\n")
	if want := `go build -trimpath -buildvcs=false -ldflags "` + linkFlags + `$VERSION" -o /out/ ./cmd/...`; !strings.Contains(run, want) {
		t.Errorf("the Dockerfile runs %q, want %q", run, want)
	}
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	if want := `go build -trimpath -ldflags "` + linkFlags + `$(VERSION)"`; !strings.Contains(string(makefile), want) {
		t.Errorf("the Makefile does not build with %q", want)
	}
}

func TestTheDockerfileTakesTheCertificatesFromThePinnedModule(t *testing.T) {
	run := strings.Join(named(stages(t)["certificates"], "RUN"), "\n")
	if !strings.Contains(run, "go run ./ca-certificates > /ca-certificates.crt") {
		t.Errorf("the stage runs %q", run)
	}
}
