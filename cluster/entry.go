package cluster

import "encoding/json"

// entry is a member as it is written down where memberships are kept. Fields are
// added, never renamed: other versions read them.
type entry struct {
	Name    string   `json:"name"`
	Address string   `json:"address"`
	Admin   string   `json:"admin,omitempty"`
	Role    Role     `json:"role"`
	State   State    `json:"state"`
	Weight  int      `json:"weight"`
	Version string   `json:"version"`
	Apply   uint32   `json:"apply"`
	Unfit   string   `json:"unfit,omitempty"`
	Serves  ShardSet `json:"serves,omitempty"`
	Region  string   `json:"region,omitempty"`
	URL     string   `json:"url,omitempty"`
	Load    float64  `json:"load,omitempty"`
}

// EncodeMember returns what others read of a member; its id is kept apart.
func EncodeMember(m Member) ([]byte, error) {
	return json.Marshal(entry{m.Name, m.Address, m.Admin, m.Role, m.State, m.Weight, m.Version, m.Apply, m.Unfit, m.Serves, m.Region, m.URL, m.Load})
}

// DecodeMember reads the member with an id. Error: it makes no sense.
func DecodeMember(id string, data []byte) (Member, error) {
	var e entry
	if err := json.Unmarshal(data, &e); err != nil {
		return Member{}, err
	}
	m := Member{
		ID: id, Name: e.Name, Address: e.Address, Admin: e.Admin, Role: e.Role, State: e.State,
		Weight: e.Weight, Version: e.Version, Apply: e.Apply, Unfit: e.Unfit, Serves: e.Serves,
		Region: e.Region, URL: e.URL, Load: e.Load,
	}
	return m, m.Validate()
}
