package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// archPlaceholder stands for the architecture in the path of a given binary.
const archPlaceholder = "{arch}"

var (
	architectures = []string{"amd64", "arm64"}
	tag           = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)
	goModule      = regexp.MustCompile(`(?m)^module ` + regexp.QuoteMeta(module) + `$`)
)

type options struct {
	out, source   string
	release       release
	architectures []string
	specs         []spec
	binaries      map[string]string
}

// errUsage is a command line that can't be understood.
var errUsage = errors.New("usage")

func usageError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errUsage, fmt.Sprintf(format, args...))
}

func parse(ctx context.Context, args []string, environment func(string) string, stderr io.Writer) (*options, error) {
	o := &options{}
	flags := flag.NewFlagSet("images", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, "images packs the webhook and the demo reader into OCI images, without a container engine.\n\nFlags:\n")
		flags.PrintDefaults()
	}
	flags.StringVar(&o.source, "source", "", "the repository (default: found from the working directory upwards)")
	flags.StringVar(&o.out, "out", "", "directory to write to (default out/images in the repository)")
	flags.StringVar(&o.release.version, "version", "", "version, which is the tag too; needed")
	flags.StringVar(&o.release.revision, "revision", "", "commit that the label names (default git's HEAD)")
	platforms := flags.String("platforms", "linux/amd64,linux/arm64", "platforms, separated by commas")
	only := flags.String("only", "", "webhook or reader; empty is both")
	webhook := flags.String("webhook", "", "webhook to pack instead of building it; "+archPlaceholder+" in the path becomes amd64 or arm64")
	reader := flags.String("reader", "", "the same for the reader")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, err
		}
		return nil, errUsage // the flag package has said why
	}
	o.binaries = map[string]string{"webhook": *webhook, "reader": *reader}
	if rest := flags.Args(); len(rest) > 0 {
		return nil, usageError("unexpected argument %q; everything is a flag, see -help", rest[0])
	}
	if !tag.MatchString(o.release.version) {
		return nil, usageError("-version is %q; it must be a tag: up to 128 letters, digits, _ . and -, like 1.2.3 (semver's + is not allowed)", o.release.version)
	}
	if err := errors.Join(o.choosePlatforms(*platforms), o.chooseImages(*only), o.checkBinaries()); err != nil {
		return nil, err
	}
	return o, o.locate(ctx, environment)
}

func (o *options) choosePlatforms(list string) error {
	for platform := range strings.SplitSeq(list, ",") {
		system, arch, _ := strings.Cut(strings.TrimSpace(platform), "/")
		if system != "linux" || !slices.Contains(architectures, arch) {
			return usageError("-platforms has %q; write linux/amd64, linux/arm64 or both, separated by a comma", platform)
		}
		if !slices.Contains(o.architectures, arch) {
			o.architectures = append(o.architectures, arch)
		}
	}
	// The order on the command line is no part of what is built.
	slices.Sort(o.architectures)
	return nil
}

func (o *options) chooseImages(only string) error {
	for _, s := range specs {
		if only == "" || only == s.target() {
			o.specs = append(o.specs, s)
		}
	}
	if len(o.specs) == 0 {
		return usageError("-only is %q; it must be webhook or reader, or be left out for both", only)
	}
	return nil
}

func (o *options) checkBinaries() error {
	for _, s := range specs {
		given := o.binaries[s.target()]
		if given != "" && !slices.ContainsFunc(o.specs, func(chosen spec) bool { return chosen.name == s.name }) {
			return usageError("-%s is %q, but -only leaves that image out; drop one of the two", s.target(), given)
		}
		if given != "" && len(o.architectures) > 1 && !strings.Contains(given, archPlaceholder) {
			return usageError("-%s is %q, one file for %d platforms; put %s into the path, or name one platform with -platforms",
				s.target(), given, len(o.architectures), archPlaceholder)
		}
	}
	return nil
}

// locate finds what the command line left to the repository.
func (o *options) locate(ctx context.Context, environment func(string) string) error {
	if err := o.findSource(); err != nil {
		return err
	}
	if o.out == "" {
		o.out = filepath.Join(o.source, "out", "images")
	}
	var err error
	if o.release.revision == "" {
		if o.release.revision, err = git(ctx, o.source, "rev-parse", "HEAD"); err != nil {
			return fmt.Errorf("finding the commit for the label: %w; outside a git repository set -revision", err)
		}
	}
	epoch := environment("SOURCE_DATE_EPOCH")
	if epoch == "" {
		if epoch, err = git(ctx, o.source, "log", "-1", "--format=%ct"); err != nil {
			return fmt.Errorf("finding the commit's time: %w; outside a git repository set SOURCE_DATE_EPOCH", err)
		}
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil || seconds < 0 {
		return usageError("SOURCE_DATE_EPOCH is %q; it must be seconds since 1970, like 1767225600", epoch)
	}
	o.release.created = time.Unix(seconds, 0).UTC()
	return nil
}

func (o *options) findSource() error {
	start, given := o.source, o.source != ""
	dir, err := filepath.Abs(start)
	if err != nil {
		return fmt.Errorf("-source: %w", err)
	}
	for at := dir; ; at = filepath.Dir(at) {
		content, err := os.ReadFile(filepath.Join(at, "go.mod"))
		if err == nil && goModule.Match(content) {
			o.source = at
			return nil
		}
		if given || at == filepath.Dir(at) {
			return usageError("%s has no go.mod of %s; name the repository with -source", dir, module)
		}
	}
}

func git(ctx context.Context, dir string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...).Output() //nolint:gosec // the arguments are constants
	if err != nil {
		return "", fmt.Errorf("git %s in %s: %w", strings.Join(args, " "), dir, err)
	}
	return strings.TrimSpace(string(out)), nil
}
