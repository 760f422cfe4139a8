package simulation

import (
	"math"
	"reflect"
	"testing"
)

var small = Options{Talk: 10, Gateways: 4, Shards: 256, Users: 100_000, Sends: 1000, Samples: 20_000, Seed: 1}

func near(got, want float64) bool { return math.Abs(got-want) <= 1e-6*math.Abs(want) }

func sum(nodes []Node, value func(Node) float64) float64 {
	return SpreadOf(nodes, value).Mean * float64(len(nodes))
}

func TestNothingIsLostOnTheWay(t *testing.T) {
	r, err := Run(small)
	if err != nil {
		t.Fatal(err)
	}
	nodes := append(append([]Node{}, r.Talk...), r.Gateways...)
	for _, figure := range []struct {
		name  string
		value func(Node) float64
		want  float64
	}{
		{"shards", func(n Node) float64 { return float64(n.Shards) }, 256},
		{"users", func(n Node) float64 { return float64(n.Users) }, 100_000},
		{"records of sends and copies", func(n Node) float64 { return n.Records }, 2000},
		{"what goes out and does not come in", func(n Node) float64 { return n.Out - n.In + 1 }, float64(len(nodes))},
	} {
		if got := sum(nodes, figure.value); !near(got, figure.want) {
			t.Errorf("%s: %v, want %v", figure.name, got, figure.want)
		}
	}
	polls := func(n Node) float64 { return n.Polls }
	if a, b := sum(r.Talk, polls), sum(r.Gateways, polls); !near(a, 25_000) || !near(b, 25_000) {
		t.Errorf("%v polls at talk nodes, %v at gateways", a, b)
	}
	if r.Local < 0.05 || r.Local > 0.2 {
		t.Errorf("%v of sends stay on one of ten nodes", r.Local)
	}
}

func TestAFailureMovesLittleMoreThanItMust(t *testing.T) {
	r, err := Run(small)
	if err != nil {
		t.Fatal(err)
	}
	f := r.Failure
	if f.Moved.Mean < f.Least.Mean || f.Moved.Mean > 1.5*f.Least.Mean {
		t.Errorf("%v shards move, where %v must", f.Moved.Mean, f.Least.Mean)
	}
	if f.Fullest.Max > 1.2 || f.Fullest.Min < 1 || f.Takers.Max > 9 || f.Most.Min < 1 {
		t.Errorf("%+v", f)
	}
	if !near(f.Users.Mean, 10_000) {
		t.Errorf("%v users are affected on average, want a tenth", f.Users.Mean)
	}
}

func TestTheSameSeedReckonsTheSame(t *testing.T) {
	one, err := Run(small)
	if err != nil {
		t.Fatal(err)
	}
	two, err := Run(small)
	if err != nil || !reflect.DeepEqual(one, two) {
		t.Errorf("they differ, %v", err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"one talk node": func(o *Options) { o.Talk = 1 }, "too many gateways": func(o *Options) { o.Gateways = 1 << 20 },
		"no users": func(o *Options) { o.Users = -1 }, "no shards": func(o *Options) { o.Shards = -1 },
		"no number": func(o *Options) { o.Sends = math.NaN() }, "huge bodies": func(o *Options) { o.BodyBytes = 1 << 30 },
	} {
		o := small
		change(&o)
		if _, err := Run(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
