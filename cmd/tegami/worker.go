package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/tegami-im/tegami/config"
	"github.com/tegami-im/tegami/telemetry"
	"github.com/tegami-im/tegami/worker"
	"github.com/tegami-im/tegami/worker/analytics"
	"github.com/tegami-im/tegami/worker/hook"
	"github.com/tegami-im/tegami/worker/push"
	"github.com/tegami-im/tegami/worker/webhook"
)

type workerCommand struct {
	configFlags
}

func (workerCommand) Help() string {
	return `Hands the events of a hybrid store to those tasks that are configured: webhook.urls, push.url, analytics.enabled; and audits what is stored, slowly: audit.rate. Any number of workers share the work; one that ends or dies is replaced by the others. It runs until it is interrupted: SIGTERM and Ctrl-C let it finish what is in flight.

Examples:
  tegami worker --config /etc/tegami.yaml
  tegami worker --config /etc/tegami.yaml --set webhook.urls=https://example.org/hook --set webhook.secret_file=hook.secret`
}

func (c *workerCommand) Run(ctx context.Context, std streams) (err error) {
	loaded, err := loadHybrid(&c.configFlags, std)
	if err != nil {
		return err
	}
	w, err := startWorker(ctx, &loaded.Config, newLogger(loaded.Log, std))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	std.printf("Tegami runs %s, for operators on http://%s.\n", strings.Join(w.names(), ", "), w.listener.Addr())
	served := make(chan error, 1)
	go func() { served <- w.server.Serve(w.listener) }()
	select {
	case err := <-served:
		return err
	case err := <-w.failed:
		return err
	case <-ctx.Done():
		w.log.Info("stopping")
		return nil
	}
}

// loadHybrid loads the configuration of a hybrid store, which alone has events.
func loadHybrid(flags *configFlags, std streams) (*config.Loaded, error) {
	loaded, err := flags.load(std)
	if err != nil {
		return nil, err
	}
	if loaded.Store.Kind != config.StoreHybrid {
		return nil, usagef("store.kind is %s: only a hybrid store has events and tasks", loaded.Store.Kind)
	}
	return loaded, nil
}

// workerTopics are the topics of the task processor.
func workerTopics(c *config.Config) worker.Topics {
	return worker.Topics{Events: c.Events.Topic, Retries: c.Worker.Tasks + ".retry", Letters: c.Worker.Tasks + ".dead"}
}

// workerProcess is a process that runs tasks.
type workerProcess struct {
	log      *slog.Logger
	listener net.Listener
	server   *http.Server
	groups   []*worker.Group
	audits   bool
	// endAudit ends the auditor, which background waits for. What keeps it from
	// its work for good is in failed.
	endAudit   context.CancelFunc
	background sync.WaitGroup
	failed     chan error
	// open are to be closed when the groups are.
	open []io.Closer
}

// namedTask is a task that is to run.
type namedTask struct {
	name string
	worker.Task
}

func startWorker(ctx context.Context, c *config.Config, log *slog.Logger) (_ *workerProcess, err error) {
	w := &workerProcess{log: log, endAudit: func() {}, failed: make(chan error, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	options, err := kafkaOptions(c, log)
	if err != nil {
		return nil, err
	}
	tasks, err := hookTasks(c)
	if err != nil {
		return nil, err
	}
	if (len(tasks) > 0 || c.Analytics.Enabled) && !c.Events.Enabled {
		return nil, usagef("events.enabled is false: webhook.urls, push.url and analytics.enabled need events")
	}
	if len(tasks) == 0 && !c.Analytics.Enabled && c.Audit.Rate == 0 {
		return nil, usagef("there is nothing to do: set webhook.urls, push.url, analytics.enabled or audit.rate")
	}
	wait := patience{until: time.Now().Add(c.Store.StartTimeout), log: log}
	counts, err := reach(ctx, wait, "kafka", c.Kafka.Brokers, func(ctx context.Context) (*worker.Log, error) {
		return worker.OpenLog(ctx, options, worker.ClientID+"-analytics-counts")
	})
	if err != nil {
		return nil, err
	}
	w.open = append(w.open, counts)
	metrics := telemetry.NewWorker()
	if c.Analytics.Enabled {
		if _, err := counts.Partitions(c.Analytics.Topic); err != nil {
			return nil, fmt.Errorf("analytics: %w", err)
		}
		tasks = append(tasks, namedTask{"analytics", analytics.New(counts, c.Analytics.Topic, metrics.Analytics())})
	}
	if w.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", c.Worker.Listen); err != nil {
		return nil, err
	}
	for _, task := range tasks {
		group, err := worker.Start(ctx, task.Task, options, groupOptions(c, task.name, metrics, log))
		if err != nil {
			return nil, err
		}
		w.groups = append(w.groups, group)
	}
	metrics.Watch(w.groups)
	w.audit(ctx, c, metrics)
	mux := http.NewServeMux()
	for pattern, handler := range probes(metrics.Handler(), w.readiness) {
		mux.Handle(pattern, handler)
	}
	w.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	return w, nil
}

// auditPause is how long the audit waits for servers that stayed away, before it
// waits for them again.
const auditPause = 10 * time.Second

// audit begins to look at what is stored, as soon as that can be reached: tasks
// do not wait for HBase.
func (w *workerProcess) audit(ctx context.Context, c *config.Config, metrics *telemetry.Worker) {
	if c.Audit.Rate == 0 {
		return
	}
	running, end := context.WithCancel(context.WithoutCancel(ctx)) // until the worker is closed
	w.audits, w.endAudit = true, end
	w.background.Go(func() {
		storage, err := w.openAudited(running, c)
		if err != nil {
			w.failed <- fmt.Errorf("audit: %w", err)
			return
		}
		newAuditor(storage, c.Audit.Rate, metrics.Registry, w.log).Run(running)
		if err := storage.Close(); err != nil {
			w.log.Warn("the audit's connections did not close", "error", err)
		}
	})
}

// openAudited opens what is audited, however long its servers are away.
func (w *workerProcess) openAudited(ctx context.Context, c *config.Config) (*storage, error) {
	for {
		storage, err := openStorage(ctx, c, w.log, patience{until: time.Now().Add(c.Store.StartTimeout), log: w.log})
		if !isAway(err) {
			return storage, err
		}
		w.log.Warn("the audit waits for a server", "error", err)
		if !sleep(ctx, auditPause) {
			return nil, err
		}
	}
}

// readiness answers whether every task is in its group.
func (w *workerProcess) readiness(response http.ResponseWriter, _ *http.Request) {
	for _, group := range w.groups {
		if !group.Joined() {
			http.Error(response, "not ready: "+group.Name()+" is not in its group", http.StatusServiceUnavailable)
			return
		}
	}
	_, _ = io.WriteString(response, "ready\n")
}

// hookTasks makes the tasks that post somewhere.
func hookTasks(c *config.Config) ([]namedTask, error) {
	var tasks []namedTask
	targets, err := hookTargets(c.Webhook.URLs)
	if err != nil {
		return nil, err
	}
	for _, target := range targets {
		client, err := hookClient(target.url, c.Webhook.SecretFile, hook.Options{
			Timeout: c.Webhook.Timeout, AllowPrivate: c.Webhook.AllowPrivate, Connections: c.Worker.InFlight,
		})
		if err != nil {
			return nil, usagef("webhook: %w", err)
		}
		task, err := webhook.New(client, list(c.Webhook.Kinds))
		if err != nil {
			return nil, usagef("webhook.kinds: %w", err)
		}
		tasks = append(tasks, namedTask{target.name, task})
	}
	if c.Push.URL != "" {
		client, err := hookClient(c.Push.URL, c.Push.SecretFile, hook.Options{
			Timeout: c.Push.Timeout, AllowPrivate: c.Push.AllowPrivate, Connections: c.Worker.InFlight,
		})
		if err != nil {
			return nil, usagef("push: %w", err)
		}
		tasks = append(tasks, namedTask{"push", push.New(client, c.Push.MaxAge)})
	}
	return tasks, nil
}

func groupOptions(c *config.Config, task string, metrics *telemetry.Worker, log *slog.Logger) worker.Options {
	return worker.Options{
		Name:           task,
		Group:          c.Worker.Group + "-" + task,
		Topics:         workerTopics(c),
		InFlight:       c.Worker.InFlight,
		Window:         c.Worker.Window,
		KeyQueue:       c.Worker.KeyQueue,
		Attempts:       c.Worker.Attempts,
		Backoff:        c.Worker.Backoff,
		MaxBackoff:     c.Worker.BackoffMax,
		Timeout:        c.Worker.Timeout,
		DrainTimeout:   c.Worker.DrainTimeout,
		SessionTimeout: c.Worker.SessionTimeout,
		Observe:        metrics.Tasks(),
		Logger:         log,
	}
}

// hookTarget is a URL and the task that posts to it.
type hookTarget struct{ name, url string }

// hookTargets reads webhook.urls.
func hookTargets(text string) ([]hookTarget, error) {
	entries := list(text)
	var targets []hookTarget
	names := map[string]bool{}
	for _, entry := range entries {
		target := hookTarget{name: "webhook", url: entry}
		if name, url, found := strings.Cut(entry, "="); found && worker.ValidName(name) {
			target = hookTarget{name: "webhook-" + name, url: url}
		} else if len(entries) > 1 {
			return nil, usagef("webhook.urls: several need names, as in NAME=%s", entry)
		}
		if err := hook.CheckURL(target.url); err != nil {
			return nil, usagef("webhook.urls: %w", err)
		}
		if names[target.name] {
			return nil, usagef("webhook.urls: the name of %s is taken", entry)
		}
		names[target.name] = true
		targets = append(targets, target)
	}
	return targets, nil
}

// hookClient returns a client that signs with every line of a file.
func hookClient(url, secretFile string, options hook.Options) (*hook.Client, error) {
	secrets, err := readHookSecrets(secretFile)
	if err != nil {
		return nil, fmt.Errorf("secret_file: %w", err)
	}
	options.URL, options.Secrets = url, secrets
	return hook.New(options)
}

func (w *workerProcess) names() []string {
	var names []string
	for _, group := range w.groups {
		names = append(names, group.Name())
	}
	if w.audits {
		names = append(names, "the audit")
	}
	return names
}

// close lets the partitions go, all groups at a time, and ends what runs.
func (w *workerProcess) close() error {
	closed := make(chan error)
	for _, group := range w.groups {
		go func() { closed <- group.Close() }()
	}
	var errs []error
	for range w.groups {
		errs = append(errs, <-closed)
	}
	w.endAudit()
	w.background.Wait()
	for _, closer := range w.open {
		errs = append(errs, closer.Close())
	}
	switch {
	case w.server != nil:
		errs = append(errs, w.server.Close())
	case w.listener != nil:
		errs = append(errs, w.listener.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	w.log.Info("stopped")
	return nil
}
