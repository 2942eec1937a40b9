"""What a container gets mounted on its root filesystem: ``-v``, ``--mount``, ``--tmpfs``, ``--volumes-from``, VOLUMEs of images.

The grammar and the rules are docker's (moby, volume/mounts/linux_parser.go; docker/cli, opts/mount.go).

``spec``      one mount that somebody wants.
``rules``     what is refused in all of the grammars.
``short``     the grammar of ``-v``.
``long``      the grammar of ``--mount``.
``tmpfs``     the grammar of ``--tmpfs``.
``inherit``   the grammar and the meaning of ``--volumes-from``.
``plan``      all of them together: which one counts where several have one target.
"""
