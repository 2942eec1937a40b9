"""What makes a mount of it all.

Layout, from the bottom up:

``errors``             the one kind of error that users see.
``option_syntax``      the grammar of ``-o``.
``options``            what each option means, in three dialects.
``request``            a mount that somebody wants, complete and free of contradictions.
``locations``          what lies inside what, through links and bind mounts.
``checks``             what is refused before mounting.
``locks``              who may write to an upper.
``processes``          which process is which.
``process_setup``      what a serving process must be like.
``log``                where a daemon tells what it cannot tell on a terminal.
``registry``           which unions are mounted.
``lookup``             the mount that a path means.
``control``, ``control_server``   the two ends of a daemon's control socket.
``live_layers``, ``layers``   changing the layers of a running mount: in the daemon, and in the command.
``loading``            loading something while requests are answered.
``serving``            the event loop of a mount; of these, ``control_server``, ``live_layers`` and ``restart`` need trio too.
``held``               a mount without the process that serves it.
``restart``, ``restarting``   replacing that process: in the daemon, and in the command.
``supervisor``, ``worker``   holding a mount, and serving it for as long as one lives.
``server``             one mount, from the checks to the last file closed.
``daemon``             starting a server, in the background or not.
``resume``             the program that goes on holding a mount in place of another.
``unmounting``         unmounting, and waiting for the end.
``finding``            what a probe tells.
``trial_mount``        a real mount, made to see what works.
``fuse_probes``, ``directory_probes``, ``process_probes``, ``probes``   what ``unionfs doctor`` tries.
"""
