package browser

import (
	"strings"
	"testing"
)

// TestThePageFollowsWhatHappens: green turns red and green again while somebody looks, and
// nobody reloads. Its pictures are those of the README.
func TestThePageFollowsWhatHappens(t *testing.T) {
	t.Parallel()
	a := newNamedAccess(t, names{namespace: "shop", policy: "orders", bucket: "orders-data", role: "s3-reader-role"}, map[string]string{
		"2026/01/orders.csv": strings.Repeat("1001,shipped\n", 9000), "2026/02/orders.csv": strings.Repeat("1002,open\n", 7000),
		"invoices/INV-1001.pdf": strings.Repeat("x", 48_213), "customers.parquet": strings.Repeat("x", 3_407_872), "orders.csv": strings.Repeat("1,2,3\n", 4242),
		"schema.json": `{"orders": ["id", "state"]}`,
	})
	p := open(t, a.reader(t, nil), "")
	eval[any](p, "window.opened = 1") // a reload would forget it
	p.ready("true")
	p.lists(5)
	p.picture("reader", "#chain")
	p.inAllSchemes()

	p.allowRefusals()
	setDeny(t, a.policy, true)
	p.ready("false")
	if text := p.text("#cause"); text != "ExplicitDenyBucketPolicy" {
		t.Errorf("the cause is %q", text)
	}
	p.picture("reader-denied", "#chain")
	p.click("#reload")
	p.shows("#problem")

	setDeny(t, a.policy, false)
	p.ready("true")
	p.lists(5)
	if text := p.text("#problem"); text != "" {
		t.Errorf("the listing is still said to fail: %s", text)
	}
	if !eval[bool](p, "window.opened === 1") {
		t.Error("the page has reloaded itself")
	}
}

// inAllSchemes takes the pictures of a green page.
func (p *tab) inAllSchemes() {
	p.t.Helper()
	for _, scheme := range []string{"dark", "light"} {
		p.media(scheme)
		p.picture("green-"+scheme, "")
	}
	p.width(phone)
	p.picture("phone", "")
	p.width(1280)
}
