// Writes vectors.json with golang.org/x/mod's own sumdb/note and sumdb/tlog:
//
//	apt-get install golang-go golang-golang-x-mod-dev
//	GO111MODULE=off GOPATH=/usr/share/gocode go run tests/vectors/tlog/main.go > tests/vectors/tlog/vectors.json
//
// A log of nine entries at every size, its checkpoint as a signed note, and a tlog-proof of every entry. The proofs are
// checked by sumdb/tlog before they are written. Signatures are Ed25519's, so that whoever makes the same notes makes
// the same bytes.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	// The key pair in the documentation of sumdb/note, under the name of a log.
	seed = "YEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
	most = 9
)

type hashes []tlog.Hash

func (found hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	read := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		read[i] = found[index]
	}
	return read, nil
}

type head struct {
	Checkpoint string   `json:"checkpoint"`
	Proofs     []string `json:"proofs"`
}

type vectors struct {
	Key     string   `json:"key"`
	Entries []string `json:"entries"`
	Heads   []head   `json:"heads"`
}

func main() {
	signer, err := note.NewSigner("PRIVATE+KEY+PeterNeumann+c74f20a3+A" + seed)
	must(err)
	made := vectors{Key: "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"}
	var stored hashes
	var entries [][]byte
	for size := int64(0); size <= most; size++ {
		if size > 0 {
			digest := sha256.Sum256([]byte{byte(size)})
			entry := append(digest[:], 0, 0, 0, 0, 0, 0, 0, byte(size))
			more, err := tlog.StoredHashes(size-1, entry, stored)
			must(err)
			stored, entries = append(stored, more...), append(entries, entry)
			made.Entries = append(made.Entries, hex.EncodeToString(entry))
		}
		root := tlog.Hash(sha256.Sum256(nil))
		if size > 0 {
			root, err = tlog.TreeHash(size, stored)
			must(err)
		}
		signed, err := note.Sign(&note.Note{Text: fmt.Sprintf("PeterNeumann\n%d\n%s\n", size, root)}, signer)
		must(err)
		proofs := []string{}
		for index := int64(0); index < size; index++ {
			proof, err := tlog.ProveRecord(size, index, stored)
			must(err)
			must(tlog.CheckRecord(proof, size, root, index, tlog.RecordHash(entries[index])))
			text := fmt.Sprintf("c2sp.org/tlog-proof@v1\nindex %d\n", index)
			for _, hash := range proof {
				text += hash.String() + "\n"
			}
			proofs = append(proofs, text+"\n"+string(signed))
		}
		made.Heads = append(made.Heads, head{string(signed), proofs})
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", " ")
	must(out.Encode(made))
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
