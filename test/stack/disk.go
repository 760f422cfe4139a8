package stack

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// dataFolders say where in its folder a service has its data. ZooKeeper, which
// runs in HBase's process, has its own elsewhere.
var dataFolders = map[string]string{Redis: "data", HBase: "data/hbase", Kafka: "data", Etcd: "data"}

// Disk is a file system of its own for the data of a service.
type Disk struct {
	folder string
	size   int64
}

// Disk mounts a file system of so many bytes, in memory, for the data of a
// service that has none yet, until the test ends. It needs Linux and root.
//
// HBase's write-ahead log stays outside. On a local file system, and not on
// HDFS, HBase goes on behind a record that it wrote in part, acknowledges what
// follows, and cannot read it again: what is lost then says nothing of clients.
// Memory is written to files often, so that a full disk is noticed: then the
// region server ends.
func (s *Stack) Disk(t testing.TB, service string, size int64) *Disk {
	t.Helper()
	d := &Disk{folder: filepath.Join(s.Folder(service), dataFolders[service]), size: size}
	if err := os.MkdirAll(d.folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if service == HBase {
		s.Set("HBASE_SITE", fmt.Sprintf("<property><name>hbase.wal.dir</name><value>file://%s/wal</value></property>"+
			"<property><name>hbase.hregion.memstore.flush.size</name><value>%d</value></property>", s.Folder(HBase), 4<<20))
	}
	if err := mount(t, fmt.Sprintf("size=%d", size), d.folder); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "--lazy", d.folder).Run() }) //nolint:noctx // The test's context has ended.
	return d
}

// Fill leaves no room on the disk.
func (d *Disk) Fill(t testing.TB) {
	t.Helper()
	var err error
	for range 1000 { // What is written meanwhile makes it too small.
		var used int64
		if used, err = d.used(t); err != nil {
			break
		}
		if err = d.resize(t, used); err == nil {
			return
		}
	}
	t.Fatal(err)
}

// Free gives the disk its size again.
func (d *Disk) Free(t testing.TB) {
	t.Helper()
	if err := d.resize(t, d.size); err != nil {
		t.Fatal(err)
	}
}

func (d *Disk) resize(t testing.TB, size int64) error {
	return mount(t, fmt.Sprintf("remount,size=%d", size), d.folder)
}

func (d *Disk) used(t testing.TB) (int64, error) {
	output, err := exec.CommandContext(t.Context(), "df", "-k", "--output=used", d.folder).Output()
	if err != nil {
		return 0, fmt.Errorf("df %s: %w", d.folder, err)
	}
	_, number, _ := strings.Cut(string(output), "\n")
	kilobytes, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
	return kilobytes << 10, err
}

func mount(t testing.TB, options, folder string) error {
	command := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", options, "tmpfs", folder)
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", command, err, output)
	}
	return nil
}
