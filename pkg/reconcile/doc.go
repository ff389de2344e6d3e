// Package reconcile keeps in step what admission alone can't: ServiceAccounts that
// were there before the webhook, and those whose policy changes later. Only the
// leader writes.
package reconcile
