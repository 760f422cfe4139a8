package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/tegami-im/tegami/config"
)

// dataFolder checks that the server may write to its folder, and others may not
// read it.
func dataFolder(_ context.Context, c *config.Config) Finding {
	dir := c.Data.Dir
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := tryWriting(existing(dir)); err != nil {
			return problem("sudo install -d -m 700 -o $(id -un) "+dir, "%s cannot be made: %v", dir, err)
		}
		return ok("%s will be made", dir)
	case err != nil:
		return problem("ls -ld "+dir, "%v", err)
	case !info.IsDir():
		return problem("give another folder by --data", "%s is not a folder", dir)
	}
	if err := tryWriting(dir); err != nil {
		return problem("sudo chown -R $(id -un) "+dir, "no file can be written: %v", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return warning("chmod 700 "+dir, "%s is open to other users (%v)", dir, info.Mode().Perm())
	}
	return ok("%s is writable, and closed to others", dir)
}

// existing returns the nearest folder upwards that exists.
func existing(dir string) string {
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

func tryWriting(dir string) error {
	file, err := os.CreateTemp(dir, ".tegami-doctor-")
	if err != nil {
		return err
	}
	return errors.Join(file.Close(), os.Remove(file.Name()))
}

// secrets checks the files that whoever reads them could act as any user with.
func secrets(_ context.Context, c *config.Config) Finding {
	for _, name := range []string{"signing.key", "admin.token"} {
		file := filepath.Join(c.Data.Dir, name)
		info, err := os.Stat(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // made by the first start
		}
		if err != nil {
			return problem("ls -l "+file, "%v", err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			return problem("chmod 600 "+file, "%s is open to other users (%v)", file, info.Mode().Perm())
		}
	}
	return ok("closed to other users")
}

// certificate checks that the certificate loads and has time left.
func certificate(_ context.Context, c *config.Config) Finding {
	if c.TLS.Cert == "" {
		return ok("not used: cleartext on %s", c.Server.Listen)
	}
	pair, err := tls.LoadX509KeyPair(c.TLS.Cert, c.TLS.Key)
	if err != nil {
		return problem("set tls.cert and tls.key to a pair that belongs together", "%v", err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return problem("set tls.cert to a PEM certificate", "%v", err)
	}
	day := 24 * time.Hour
	switch left := time.Until(leaf.NotAfter); {
	case left <= 0:
		return problem("renew "+c.TLS.Cert, "expired on %s", leaf.NotAfter.Format(time.DateOnly))
	case left < 14*day:
		return warning("renew "+c.TLS.Cert, "expires in %d days", left/day)
	default:
		return ok("good until %s", leaf.NotAfter.Format(time.DateOnly))
	}
}
