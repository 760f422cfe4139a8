package kafka

// OnFakeCluster makes the options fit the fake cluster.
func (o *Options) OnFakeCluster() { o.senderTime = true }
