package kafka

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
)

// scram is a client of SCRAM (RFC 5802) without channel binding, for one
// authentication. It implements sarama.SCRAMClient.
type scram struct {
	hash func() hash.Hash
	// nonce is set by tests only; otherwise it is random.
	nonce string

	password    string
	firstBare   string
	step        int
	serverProof []byte // what the server must prove at last
}

// scramName escapes a user's name as RFC 5802 asks.
var scramName = strings.NewReplacer("=", "=3D", ",", "=2C")

// Begin implements sarama.SCRAMClient.
func (s *scram) Begin(user, password, authzID string) error {
	if authzID != "" {
		return errors.New("SCRAM: no authorization identity is supported")
	}
	if s.nonce == "" {
		s.nonce = rand.Text()
	}
	s.password = password
	s.firstBare = "n=" + scramName.Replace(user) + ",r=" + s.nonce
	return nil
}

// Step implements sarama.SCRAMClient.
func (s *scram) Step(challenge string) (string, error) {
	s.step++
	switch s.step {
	case 1:
		return "n,," + s.firstBare, nil
	case 2:
		return s.prove(challenge)
	case 3:
		return "", s.verify(challenge)
	default:
		return "", errors.New("SCRAM: the server goes on after its end")
	}
}

// Done implements sarama.SCRAMClient.
func (s *scram) Done() bool { return s.step >= 3 }

// attributes splits a=…,b=… into values by name.
func attributes(message string) map[string]string {
	values := map[string]string{}
	for part := range strings.SplitSeq(message, ",") {
		if name, value, ok := strings.Cut(part, "="); ok {
			values[name] = value
		}
	}
	return values
}

// maxIterations bounds the work that a server can ask for.
const maxIterations = 1 << 20

func (s *scram) prove(serverFirst string) (string, error) {
	values := attributes(serverFirst)
	nonce := values["r"]
	if !strings.HasPrefix(nonce, s.nonce) || nonce == s.nonce {
		return "", errors.New("SCRAM: the server's nonce does not follow the client's")
	}
	salt, err := base64.StdEncoding.DecodeString(values["s"])
	if err != nil {
		return "", fmt.Errorf("SCRAM: salt: %w", err)
	}
	iterations, err := strconv.Atoi(values["i"])
	if err != nil || iterations < 1 || iterations > maxIterations {
		return "", fmt.Errorf("SCRAM: %q iterations", values["i"])
	}
	salted, err := pbkdf2.Key(s.hash, s.password, salt, iterations, s.hash().Size())
	if err != nil {
		return "", fmt.Errorf("SCRAM: %w", err)
	}
	final := "c=biws,r=" + nonce
	message := s.firstBare + "," + serverFirst + "," + final
	clientKey := s.mac(salted, "Client Key")
	digest := s.hash()
	digest.Write(clientKey)
	proof := s.mac(digest.Sum(nil), message)
	for i := range proof {
		proof[i] ^= clientKey[i]
	}
	s.serverProof = s.mac(s.mac(salted, "Server Key"), message)
	return final + ",p=" + base64.StdEncoding.EncodeToString(proof), nil
}

func (s *scram) verify(serverFinal string) error {
	values := attributes(serverFinal)
	if reason, failed := values["e"]; failed {
		return fmt.Errorf("SCRAM: the server refuses: %s", reason)
	}
	proof, err := base64.StdEncoding.DecodeString(values["v"])
	if err != nil || !hmac.Equal(proof, s.serverProof) {
		return errors.New("SCRAM: the server does not know the password")
	}
	return nil
}

func (s *scram) mac(key []byte, message string) []byte {
	mac := hmac.New(s.hash, key)
	mac.Write([]byte(message))
	return mac.Sum(nil)
}
