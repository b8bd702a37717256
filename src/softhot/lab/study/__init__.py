"""Many runs: which they are, who carries them out, what is kept of them, and what their records say."""
