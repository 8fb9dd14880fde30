// HoldfastServer
