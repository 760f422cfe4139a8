package persisttest

import (
	"errors"
	"flag"
	"testing"
)

var (
	modelSeed = flag.Uint64("model.seed", 0, "run models with this seed only")
	modelRuns = flag.Float64("model.runs", 1, "how many runs of each model, times the usual number")
)

// NothingWrong runs the model with the seeds from 1 on, as many as runs, and
// fails on what it finds, or when the runs do too little to prove anything. The
// flags model.seed and model.runs choose others.
func (m Model) NothingWrong(t *testing.T, runs int) {
	t.Helper()
	first := uint64(1)
	runs = int(float64(runs) * *modelRuns)
	if *modelSeed != 0 {
		first, runs = *modelSeed, 1
	}
	var total Tally
	wrong := 0
	for seed := first; seed < first+uint64(runs) && wrong < 5; seed++ {
		tally, err := m.Run(seed)
		if err != nil {
			wrong++
			t.Errorf("%v (to repeat it: -run '^%s$' -model.seed %d)", err, t.Name(), seed)
		}
		total.add(tally)
	}
	t.Logf("%d of %d runs wrong; in all %+v", wrong, runs, total)
	if wrong == 0 && runs >= 20 && (total.Answered < 5*runs || total.AnsweredAgain < 2*runs || total.Skipped < runs || total.LookedUp < runs) {
		t.Errorf("%d runs do too little to prove anything: %+v", runs, total)
	}
}

func (t *Tally) add(more Tally) {
	t.Answered += more.Answered
	t.AnsweredAgain += more.AnsweredAgain
	t.Skipped += more.Skipped
	t.LookedUp += more.LookedUp
}

// FindsBrokenRules breaks one rule after the other and fails when none of the
// models finds anything wrong with one of at most seeds.
func FindsBrokenRules(t *testing.T, seeds uint64, models ...Model) {
	t.Helper()
	for _, rule := range Rules() {
		t.Run(rule.String(), func(t *testing.T) {
			for seed := uint64(1); seed <= seeds; seed++ {
				for _, m := range models {
					m.Without = rule
					_, err := m.Run(seed)
					if _, found := errors.AsType[*Violation](err); found {
						t.Logf("found by %v", err)
						return
					}
					if err != nil {
						t.Fatal(err)
					}
				}
			}
			t.Errorf("%d runs without the rule found nothing", seeds)
		})
	}
}
