"""What others say of our WebSockets: the Autobahn test suite against both ends."""
