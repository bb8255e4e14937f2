"""One child process, what comes from it, and what it leaves behind."""
