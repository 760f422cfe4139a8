package bench

import "github.com/tegami-im/tegami/bench/ledger"

// Result is what a run measured: of the figures, those of its scenario. Memory
// is in bytes, latencies are in milliseconds.
type Result struct {
	Scenario string          `json:"scenario"`
	Messages *MessageFigures `json:"messages,omitempty"`
	Held     *HeldFigures    `json:"held,omitempty"`
	Accounts *AccountFigures `json:"accounts,omitempty"`
	Restart  *RestartFigures `json:"restart,omitempty"`
	Pages    *PageFigures    `json:"pages,omitempty"`
	Group    *GroupFigures   `json:"group,omitempty"`
	// Faults is what must not be: a run that has any is a failed one.
	Faults ledger.Faults `json:"faults"`
	// Evidence describes the first few faults.
	Evidence []string `json:"evidence,omitempty"`
	// Errors counts the requests that failed, by call and code.
	Errors map[string]int `json:"errors,omitempty"`
}

// MessageFigures tell what messages cost and how long they took.
type MessageFigures struct {
	Users       int `json:"users"`
	Connections int `json:"connections"`
	// Window is how many messages were in flight at once, in a closed loop.
	Window int `json:"window,omitempty"`
	// Rate is how many messages a second were due, in an open loop.
	Rate    float64 `json:"rate,omitempty"`
	Seconds float64 `json:"seconds"`

	AckedPerSecond     float64 `json:"ackedPerSecond"`
	DeliveredPerSecond float64 `json:"deliveredPerSecond"`
	// Ack and Delivery count from when the message was due to its answer, and
	// to its recipient's poll answer.
	Ack      ledger.Latency `json:"ack"`
	Delivery ledger.Latency `json:"delivery"`
	// Lateness is how far behind its schedule the generator itself sent: part
	// of the latencies above, and not the server's doing.
	Lateness ledger.Latency `json:"lateness"`
	// Late counts acknowledged messages that no held poll had handed over
	// seconds after the end: lost wake-ups.
	Late int `json:"late"`

	// Processor time, in microseconds for each delivered message.
	ServerCPU float64 `json:"serverCpuMicros"`
	ClientCPU float64 `json:"clientCpuMicros"`
	// ServerCores and ClientCores are how many cores were kept busy.
	ServerCores float64 `json:"serverCores"`
	ClientCores float64 `json:"clientCores"`
	// Fsyncs for each acknowledged message: of all databases, and of the
	// journal. Missing when the server does not count them.
	Fsyncs        *float64 `json:"fsyncsPerAcked,omitempty"`
	JournalFsyncs *float64 `json:"journalFsyncsPerAcked,omitempty"`
	ServerMemory  int64    `json:"serverMemory"`
}

// HeldFigures tell what held polls cost in server memory.
type HeldFigures struct {
	Polls       int `json:"polls"`
	Connections int `json:"connections"`
	// Before and After are the resident memory without and with the polls,
	// garbage collected and returned.
	Before     int64   `json:"before"`
	After      int64   `json:"after"`
	PerPoll    float64 `json:"perPoll"`
	Goroutines int64   `json:"goroutines"`
}

// AccountFigures tell what accounts cost in server memory and at a start.
type AccountFigures struct {
	Accounts         int     `json:"accounts"`
	Active           int     `json:"active"`
	CreatedPerSecond float64 `json:"createdPerSecond"`
	// Memory is the resident memory once the active users have messages and
	// polls: as it was found, after garbage was collected and returned, and
	// the most that it ever was.
	Memory      int64 `json:"memory"`
	MemoryFreed int64 `json:"memoryFreed"`
	MemoryPeak  int64 `json:"memoryPeak"`
	// CleanStart is how long a start took after a clean stop, in seconds, and
	// StartMemory what was resident then. 0 when the server is not ours.
	CleanStart  float64 `json:"cleanStartSeconds,omitempty"`
	StartMemory int64   `json:"startMemory,omitempty"`
}

// PageFigures tell how long pages of old operations took, beside messages whose
// latencies are in MessageFigures, and how long those took alone.
type PageFigures struct {
	Readers       int            `json:"readers"`
	Think         float64        `json:"thinkSeconds"`
	PerSecond     float64        `json:"perSecond"`
	Page          ledger.Latency `json:"page"`
	AloneAck      ledger.Latency `json:"aloneAck"`
	AloneDelivery ledger.Latency `json:"aloneDelivery"`
}

// RestartFigures tell how long starts took, in seconds.
type RestartFigures struct {
	Messages int `json:"messages"`
	// Records counts the journal's records of those messages: one in the
	// recipient's journal, one in the sender's.
	Records int `json:"records"`
	// Unstored is how many records the store did not have before the kill: what
	// the start had to replay. -1 when the server does not count them.
	Unstored    int64   `json:"unstored"`
	KilledStart float64 `json:"killedStartSeconds"`
	CleanStart  float64 `json:"cleanStartSeconds"`
	// MemoryPeak is the most that was resident after the start that replayed.
	MemoryPeak int64 `json:"memoryPeak"`
}
