module autoregistry.bench/peers

go 1.21
