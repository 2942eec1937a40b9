"""Foreign volume plugins: our side of docker's volume plugin protocol
(docs.docker.com, "Docker Engine managed plugin system: Plugin API" and "Docker volume plugins").

Layout, from the bottom up:

``errors``      how a plugin fails: not reached, refused, answered nonsense.
``timing``      how long a plugin is waited for, and the clock that says so.
``discovery``   which plugins there are and where they listen.
``tls``         the encryption of those that listen elsewhere.
``transport``   one request and its answer, whatever the other side does.
``protocol``    what the answers mean; does no input or output.
``client``      the calls, activated and repeated where that does no harm.
``driver``      a plugin as a `VolumeDriver`.
``plugins``     all of them, as `Drivers` asks for them.
"""
