package main

import (
	"slices"
	"testing"

	tasksv1 "github.com/tegami-im/tegami/api/gen/tegami/tasks/v1"
	"github.com/tegami-im/tegami/worker"
)

func TestHookTargets(t *testing.T) {
	for _, test := range []struct {
		urls string
		want []hookTarget // nil: refused
	}{
		{"https://a.example/hook", []hookTarget{{"webhook", "https://a.example/hook"}}},
		{"https://a.example/hook?key=value", []hookTarget{{"webhook", "https://a.example/hook?key=value"}}},
		{"crm=https://a.example, audit=https://b.example", []hookTarget{{"webhook-crm", "https://a.example"}, {"webhook-audit", "https://b.example"}}},
		{"https://a.example,https://b.example", nil},
		{"a=https://a.example,a=https://b.example", nil},
		{"a=ftp://a.example", nil},
		{"nowhere", nil},
	} {
		got, err := hookTargets(test.urls)
		if (err == nil) != (test.want != nil) || !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, %v", test.urls, got, err)
		}
	}
	if got, err := hookTargets(""); err != nil || len(got) > 0 {
		t.Errorf("nothing: %v, %v", got, err)
	}
}

func TestPagesOfLetters(t *testing.T) {
	var all []worker.Letter
	for _, id := range []string{"a", "b", "c"} {
		all = append(all, worker.Letter{ID: id, DeadLetter: &tasksv1.DeadLetter{}})
	}
	for _, test := range []struct {
		after string
		limit int
		want  string
		more  bool
	}{
		{"", 0, "abc", false},
		{"", 2, "ab", true},
		{"b", 2, "c", false},
		{"a", 1, "b", true},
		{"c", 1, "", false},
	} {
		page, more, err := pageOf(all, test.after, test.limit)
		got := ""
		for _, letter := range page {
			got += letter.ID
		}
		if err != nil || got != test.want || more != test.more {
			t.Errorf("after %q, %d: %q, more: %v, %v", test.after, test.limit, got, more, err)
		}
	}
	if _, _, err := pageOf(all, "x", 1); err == nil {
		t.Error("a page after an unknown letter is no error")
	}
}
